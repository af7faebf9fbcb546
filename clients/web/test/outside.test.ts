// What an app without a browser brings along.

import { create, toBinary } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";
import { GetUnreadCountResponseSchema, NotificationService } from "../src/gen/doorbell/v1/notifications_pb.js";
import { grpcWeb, MuteError } from "../src/grpcweb.js";
import type { Fetch, InboxStorage } from "../src/index.js";
import { Diagnosis } from "../src/problem.js";
import { open, pass, service, titles } from "./page.js";
import { token } from "./tabs.js";

const framed = (flags: number, data: Uint8Array) => [flags, 0, 0, 0, data.length, ...data];

/** The service answers as a whole, as where `fetch` has no streams. */
const whole: Fetch = async () => {
  const count = create(GetUnreadCountResponseSchema, { head: { unreadCount: 7 } });
  const data = framed(0, toBinary(GetUnreadCountResponseSchema, count));
  const bytes = Uint8Array.from([...data, ...framed(0x80, new TextEncoder().encode("grpc-status: 0\r\n"))]);
  const headers = new Headers({ "content-type": "application/grpc-web+proto" });
  return { ok: true, status: 200, headers, arrayBuffer: async () => bytes.buffer };
};

test("a fetch without streams answers calls, and a stream says why there is none", async () => {
  const client = createClient(NotificationService, grpcWeb("https://bell.test", whole));
  expect((await client.getUnreadCount({})).head?.unreadCount).toBe(7);
  const first = client.subscribe({})[Symbol.asyncIterator]().next();
  const error = await first.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(MuteError);
  expect((error as Error).message).toContain("option fetch");
});

test("where there is no page nothing is said of origins, and the fetch that is given is asked", async () => {
  vi.stubGlobal("location", undefined);
  const asked = vi.fn<Fetch>(async () => Promise.reject(new TypeError("no network")));
  const diagnosis = new Diagnosis("https://bell.test", asked);
  const error = new ConnectError("x", undefined, undefined, undefined, new TypeError("Network request failed"));
  const { kind, message } = await diagnosis.of(error);
  expect(kind).toBe("unreachable");
  expect(message).toContain("Network request failed");
  expect(asked).not.toHaveBeenCalled();
});

/** A store that no browser has. */
function keeping(): InboxStorage & { readonly held: Map<string, string> } {
  const held = new Map<string, string>();
  return {
    held,
    keys: () => [...held.keys()],
    getItem: (key) => held.get(key),
    setItem: (key, text) => void held.set(key, text),
    removeItem: (key) => void held.delete(key),
  };
}

test("the inbox is kept where the app says, for one user at a time", async () => {
  vi.stubGlobal("localStorage", undefined);
  const storage = keeping();
  service.send("one");
  const former = open({ persist: true, storage, user: "ann" });
  await pass(1000);
  expect(titles(former)).toEqual(["one"]);
  former.stop();
  expect(storage.held.size).toBe(1);
  // It is there before there is a token.
  const next = open({ persist: true, storage, user: "ann", getToken: async () => new Promise<string>(() => undefined) });
  expect(titles(next)).toEqual(["one"]);
  next.stop();
  const other = open({ persist: true, storage, user: "bob", getToken: () => token("bob") });
  expect(titles(other)).toEqual([]);
  expect([...storage.held.keys()].filter((key) => key.includes("ann"))).toEqual([]);
  other.stop({ forget: true });
  expect(storage.held.size).toBe(0);
});
