// The client where there is no page at all, as in an app of React Native: none of a browser's
// globals are there but those that the README names, and the service is the real one.

import { request } from "node:http";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Fetch, InboxClient, InboxOptions, InboxStorage, Status } from "../src/index.js";
import { Doorbell, until } from "./service.js";

/** What an app has not, and Node.js may have. */
const ABSENT = [
  "document",
  "location",
  "navigator",
  "localStorage",
  "sessionStorage",
  "BroadcastChannel",
  "MessageChannel",
  "fetch",
  "Request",
  "Response",
  "ReadableStream",
  "WebSocket",
  "EventSource",
  "Event",
  "CustomEvent",
  "structuredClone",
  "crypto",
  "Notification",
];

const former = ABSENT.flatMap((name) => Object.getOwnPropertyDescriptor(globalThis, name) ?? []);
const names = ABSENT.filter((name) => name in globalThis);
/** As in React Native: there is a `window`, and it is no target of events. */
const NATIVE = { window: globalThis };
const { prototype } = AbortSignal;
/** What is younger than some of its versions. */
const YOUNG: readonly [object, readonly string[]][] = [
  [prototype, ["throwIfAborted", "reason"]],
  [AbortSignal, ["any", "timeout"]],
  [Array.prototype, ["toReversed", "toSorted", "toSpliced", "with", "findLast", "findLastIndex"]],
  [Object, ["groupBy"]],
];
const elder = YOUNG.map(([of]) => Object.getOwnPropertyDescriptors(of));
const { addEventListener, removeEventListener } = EventTarget.prototype;
/** How many listen to each signal. */
const listening = new Map<AbortSignal, number>();

let createInbox: (options: InboxOptions) => InboxClient;
let doorbell: Doorbell;

beforeAll(async () => {
  doorbell = await Doorbell.start();
  for (const name of ABSENT) Reflect.deleteProperty(globalThis, name);
  expect(ABSENT.filter((name) => name in globalThis)).toEqual([]);
  Object.assign(globalThis, NATIVE);
  for (const [of, those] of YOUNG) for (const name of those) Reflect.deleteProperty(of, name);
  const count = (signal: AbortSignal, more: number) =>
    void listening.set(signal, (listening.get(signal) ?? 0) + more);
  Object.assign(prototype, {
    // Of options they know none.
    addEventListener(this: AbortSignal, type: string, listener: () => void) {
      count(this, 1);
      addEventListener.call(this, type, listener);
    },
    removeEventListener(this: AbortSignal, type: string, listener: () => void) {
      count(this, -1);
      removeEventListener.call(this, type, listener);
    },
  });
  ({ createInbox } = await import("../src/index.js"));
});

afterAll(async () => {
  Reflect.deleteProperty(globalThis, "window");
  for (const name of ["addEventListener", "removeEventListener"]) Reflect.deleteProperty(prototype, name);
  YOUNG.forEach(([of], at) => Object.defineProperties(of, elder[at] ?? {}));
  names.forEach((name, at) => Object.defineProperty(globalThis, name, former[at] ?? {}));
  await doorbell?.stop();
});

/** Keeps texts as a store of an app does. */
function keeping(): InboxStorage {
  const held = new Map<string, string>();
  return {
    keys: () => [...held.keys()],
    getItem: (key) => held.get(key),
    setItem: (key, text) => void held.set(key, text),
    removeItem: (key) => void held.delete(key),
  };
}

/** A `fetch` that is no browser's: its answers come in pieces, or once they are whole. */
function fetching(isWhole: boolean): Fetch {
  return (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const asked = request(url, { method, headers: Object.fromEntries(headers) }, async (answer) => {
        // What is read no further is ended, and nobody has to hear of it.
        answer.on("error", () => undefined);
        const { statusCode: status = 0 } = answer;
        const head = Object.entries(answer.headers).map(([name, value]): [string, string] => [name, String(value)]);
        const common = { ok: status < 300, status, headers: new Headers(head) };
        if (!isWhole) {
          const pieces = answer[Symbol.asyncIterator]();
          const read = async () => {
            const { done = false, value } = await pieces.next();
            return { done, value };
          };
          resolve({ ...common, body: { getReader: () => ({ read }) }, arrayBuffer: async () => new ArrayBuffer(0) });
          return;
        }
        const bytes = new Uint8Array(await buffer(answer)).buffer;
        resolve({ ...common, arrayBuffer: async () => bytes });
      });
      asked.on("error", (cause) => reject(new TypeError("Network request failed", { cause })));
      signal.addEventListener("abort", () => asked.destroy());
      asked.end(body);
    });
}

/** As React Native's own is not. */
const streaming = fetching(false);
/** As React Native's own is. */
const whole = fetching(true);

const untilStatus = (inbox: InboxClient, status: Status) =>
  until(`the status is ${status}`, () => inbox.getSnapshot().status === status);

test("over a fetch that streams it is live, and an app that begins anew shows what it kept", async () => {
  const storage = keeping();
  const options = { baseUrl: doorbell.url, user: "alice", storage, fetch: streaming };
  const inbox = createInbox({ ...options, getToken: () => doorbell.token("ALICE") });
  const rung: string[] = [];
  inbox.onNotification((notifications) => rung.push(...notifications.map(({ title }) => title)));
  inbox.start();
  await untilStatus(inbox, "live");
  await doorbell.send("alice", "one");
  await until("it rings", () => rung.length === 1);
  expect(inbox.getSnapshot().unreadCount).toBe(1);
  await inbox.markAllRead();
  expect(inbox.getSnapshot().unreadCount).toBe(0);
  // The app goes to the background, and comes back.
  inbox.stop();
  await doorbell.send("alice", "two");
  inbox.start();
  await until("it missed nothing", () => inbox.getSnapshot().notifications.length === 2);
  await untilStatus(inbox, "live");
  inbox.stop();
  const next = createInbox({ ...options, getToken: async () => new Promise<string>(() => undefined) });
  next.start();
  expect(next.getSnapshot().notifications.map(({ title }) => title)).toEqual(["two", "one"]);
  next.stop({ forget: true });
  expect(storage.keys()).toEqual([]);
});

test("streams that end leave nothing behind", async () => {
  const inbox = createInbox({ baseUrl: doorbell.url, fetch: streaming, getToken: () => doorbell.token("ALICE") });
  inbox.start();
  for (let restarts = 0; restarts < 3; restarts += 1) {
    await untilStatus(inbox, "live");
    await doorbell.kill();
    await untilStatus(inbox, "reconnecting");
    await doorbell.restart();
  }
  await untilStatus(inbox, "live");
  // Of its stream what cuts it, what ends its call and what renews it; nothing of those before.
  const most = Math.max(...[...listening].flatMap(([signal, count]) => (signal.aborted ? [] : count)));
  expect(most).toBeLessThanOrEqual(3);
  inbox.stop();
});

test("over a fetch that does not it asks what is new, and says why", async () => {
  const inbox = createInbox({ baseUrl: doorbell.url, fetch: whole, getToken: () => doorbell.token("BOB") });
  await doorbell.send("bob", "one");
  inbox.start();
  await untilStatus(inbox, "delayed");
  expect(inbox.getSnapshot().error?.kind).toBe("held");
  await until("the list is there", () => inbox.getSnapshot().notifications.length === 1);
  await doorbell.send("bob", "two");
  // It would be asked a quarter of a minute later.
  inbox.retry();
  await until("it came", () => inbox.getSnapshot().unreadCount === 2);
  inbox.stop();
});
