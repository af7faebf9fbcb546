import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createInbox, type Inbox, type InboxOptions } from "../src/index.js";
import { Service } from "./service.js";
import { Channel, Locks, Shelf, token } from "./tabs.js";

let service: Service;
let opened: Inbox[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  service = new Service();
  opened = [];
});

afterEach(() => {
  for (const inbox of opened) inbox.stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function open(options: Partial<InboxOptions> = {}): Inbox {
  const inbox = createInbox({
    baseUrl: "http://doorbell.test",
    getToken: () => token("ann"),
    transport: service.transport(),
    random: () => 0.5,
    shareTabs: false,
    persist: false,
    ...options,
  });
  opened.push(inbox);
  inbox.start();
  return inbox;
}

/** Lets everything happen that happens within so many milliseconds. */
async function pass(ms = 0): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) {
    await vi.advanceTimersByTimeAsync(ms / 10);
    // What was set off ends by itself: nothing here waits for a real clock.
    for (let more = 0; more < 5; more += 1) await new Promise((done) => setImmediate(done));
  }
}

const titles = (inbox: Inbox) => inbox.getSnapshot().notifications.map((row) => row.title);

test("loads, goes live, and announces only what is new", async () => {
  service.send("old");
  const inbox = open();
  const announced: string[] = [];
  inbox.onNotification((notification) => announced.push(notification.title));
  expect(inbox.getSnapshot()).toMatchObject({ isLoaded: false, status: "connecting" });
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ isLoaded: true, status: "live", unreadCount: 1 });
  service.send("new");
  await pass();
  expect(titles(inbox)).toEqual(["new", "old"]);
  expect(announced).toEqual(["new"]);
});

test("a snapshot is the same object until something changes", async () => {
  const inbox = open();
  await pass();
  const before = inbox.getSnapshot();
  expect(inbox.getSnapshot()).toBe(before);
  const heard = vi.fn();
  const forget = inbox.subscribe(heard);
  service.send("new");
  await pass();
  expect(heard).toHaveBeenCalled();
  expect(inbox.getSnapshot()).not.toBe(before);
  expect(before.notifications).toEqual([]);
  forget();
  heard.mockClear();
  service.send("newer");
  await pass();
  expect(heard).not.toHaveBeenCalled();
});

test("resumes where it was cut, and announces nothing that was missed", async () => {
  service.send("one");
  const inbox = open();
  const announced = vi.fn();
  inbox.onNotification(announced);
  await pass();
  service.cut();
  await pass();
  expect(inbox.getSnapshot().status).toBe("reconnecting");
  service.send("meanwhile");
  await pass(400);
  expect(titles(inbox)).toEqual(["meanwhile", "one"]);
  expect(inbox.getSnapshot().status).toBe("live");
  expect(announced).not.toHaveBeenCalled();
  expect(service.calls).toEqual(["getRecent", "subscribe after 1", "subscribe after 1"]);
});

test("waits longer from failure to failure, and not beyond half a minute", async () => {
  service.failure = new ConnectError("away", Code.Unavailable);
  open();
  await pass();
  expect(service.calls.length).toBe(1);
  // Half of 500 ms, then of 1 s, of 2 s, …
  for (const wait of [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]) {
    const before = service.calls.length;
    await pass(wait - 20);
    expect(service.calls.length, `before ${wait} ms`).toBe(before);
    await pass(20);
    expect(service.calls.length, `after ${wait} ms`).toBe(before + 1);
  }
});

test("silence for two heartbeats is a dead connection", async () => {
  service.heartbeatSeconds = 5;
  open();
  await pass();
  await pass(10_900);
  expect(service.calls.filter((call) => call.startsWith("subscribe")).length).toBe(1);
  await pass(200);
  expect(service.calls.filter((call) => call.startsWith("subscribe")).length).toBe(2);
  expect(service.followers.size).toBe(1);
});

test("a token is renewed before it ends, and the streams overlap", async () => {
  service.tokenLife = 60_000;
  service.heartbeatSeconds = 3600;
  const asked: boolean[] = [];
  const inbox = open({
    getToken: (fresh) => {
      asked.push(fresh);
      return token("ann");
    },
  });
  await pass();
  const before = asked.length;
  await pass(29_000);
  expect(asked.length).toBe(before);
  await pass(2000);
  expect(asked.slice(before)).toEqual([true]);
  expect(service.mostFollowers).toBe(2);
  expect(service.followers.size).toBe(1);
  service.send("after");
  await pass();
  expect(titles(inbox)).toEqual(["after"]);
});

test("a token that is refused is replaced once; refused again, it is the end", async () => {
  service.accepted = "the good one";
  const inbox = open({ getToken: (fresh) => (fresh ? "the good one" : "an old one") });
  await pass();
  expect(inbox.getSnapshot().status).toBe("live");

  service.accepted = "another";
  const other = open();
  await pass();
  expect(other.getSnapshot().status).toBe("failed");
  expect(ConnectError.from(other.getSnapshot().error).code).toBe(Code.Unauthenticated);
  const calls = service.calls.length;
  await pass(60_000);
  expect(service.calls.filter((call) => call === "getRecent").length).toBeLessThan(calls + 1);
  service.accepted = undefined;
  other.retry();
  await pass();
  expect(other.getSnapshot().status).toBe("live");
});

test("what is not allowed is the end at once", async () => {
  service.failure = new ConnectError("no", Code.PermissionDenied);
  const inbox = open();
  await pass();
  expect(inbox.getSnapshot().status).toBe("failed");
  await pass(120_000);
  expect(service.calls.length).toBe(1);
});

test("another epoch drops what is shown and loads anew", async () => {
  service.send("of the former life");
  const inbox = open();
  await pass();
  service.rows = [];
  service.revision = 0n;
  service.epoch = "the second";
  service.send("of this life");
  service.cut();
  await pass(400);
  expect(titles(inbox)).toEqual(["of this life"]);
  expect(inbox.getSnapshot()).toMatchObject({ revision: 1n, unreadCount: 1 });
});

test("an event of a kind to come is a reason to load anew", async () => {
  service.send("one");
  const inbox = open();
  await pass();
  service.revision += 1n;
  service.say({});
  await pass(100);
  expect(service.calls.filter((call) => call === "getRecent").length).toBe(2);
  expect(inbox.getSnapshot()).toMatchObject({ revision: 2n, status: "live" });
});

test("the service says when to come back", async () => {
  const inbox = open();
  await pass();
  service.say({ event: { case: "reconnect", value: { after: { seconds: 3n } } } });
  await pass(2900);
  expect(inbox.getSnapshot().status).toBe("reconnecting");
  expect(service.calls.length).toBe(2);
  await pass(200);
  expect(inbox.getSnapshot().status).toBe("live");
  expect(service.calls.length).toBe(3);
});

test("marking shows at once, and is taken back where it fails", async () => {
  const first = service.send("one");
  service.send("two");
  const inbox = open();
  await pass();
  const marked = inbox.markRead([first.id]);
  expect(inbox.getSnapshot().unreadCount).toBe(1);
  expect(inbox.getSnapshot().notifications[1]?.readAt).toBeDefined();
  await marked;
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 1, revision: 3n });

  service.failure = new ConnectError("away", Code.Unavailable);
  const failed = inbox.markRead([service.rows[1]!.id]);
  expect(inbox.getSnapshot().unreadCount).toBe(0);
  await expect(failed).rejects.toThrow("away");
  expect(inbox.getSnapshot().unreadCount).toBe(1);
  expect(inbox.getSnapshot().notifications[0]?.readAt).toBeUndefined();
});

test("pages follow one another down to the oldest", async () => {
  for (let number = 1; number <= 45; number += 1) service.send(`number ${number}`);
  const inbox = open();
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ hasMore: true, unreadCount: 45 });
  await inbox.loadMore();
  await inbox.loadMore();
  expect(titles(inbox)).toEqual(service.rows.map((row) => row.title).reverse());
  expect(inbox.getSnapshot().hasMore).toBe(false);
});

test("offline it waits, and online it comes back at once", async () => {
  const window = new EventTarget();
  const navigator = { onLine: true };
  vi.stubGlobal("window", window);
  vi.stubGlobal("navigator", navigator);
  const inbox = open();
  await pass();
  navigator.onLine = false;
  window.dispatchEvent(new Event("offline"));
  await pass(60_000);
  expect(inbox.getSnapshot().status).toBe("offline");
  expect(service.followers.size).toBe(0);
  navigator.onLine = true;
  window.dispatchEvent(new Event("online"));
  await pass();
  expect(inbox.getSnapshot().status).toBe("live");
});

/** A tab: with a document of its own, and the browser that all share. */
class Tab {
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly window = new EventTarget();
  inbox!: Inbox;

  static async open(browser: { locks: Locks; shelf: Shelf }, user = "ann", hidden = false) {
    const tab = new Tab();
    if (hidden) tab.document.visibilityState = "hidden";
    tab.enter(browser);
    tab.inbox = open({ shareTabs: true, persist: true, getToken: () => token(user) });
    await pass();
    return tab;
  }

  /** What follows happens in this tab. */
  enter(browser: { locks: Locks; shelf: Shelf }): void {
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("window", this.window);
    vi.stubGlobal("navigator", { onLine: true, locks: browser.locks });
    vi.stubGlobal("localStorage", browser.shelf);
    vi.stubGlobal("BroadcastChannel", Channel);
  }

  show(browser: { locks: Locks; shelf: Shelf }, visible: boolean): void {
    this.enter(browser);
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

function newBrowser() {
  return { locks: new Locks(), shelf: new Shelf() };
}

test("a reload shows the inbox at once, and resumes", async () => {
  const browser = newBrowser();
  service.send("kept");
  const tab = await Tab.open(browser);
  await pass(500);
  tab.inbox.stop();
  service.send("meanwhile");
  service.calls.length = 0;
  const again = createInbox({
    baseUrl: "http://doorbell.test",
    getToken: () => token("ann"),
    transport: service.transport(),
  });
  opened.push(again);
  again.start();
  await Promise.resolve();
  await Promise.resolve();
  expect(titles(again)).toEqual(["kept"]);
  await pass(100);
  expect(titles(again)).toEqual(["meanwhile", "kept"]);
  expect(service.calls).toEqual(["subscribe after 1"]);
});

test("another user sees nothing of the former, and nothing of it stays", async () => {
  const browser = newBrowser();
  service.send("for ann");
  const ann = await Tab.open(browser);
  await pass(500);
  ann.inbox.stop();
  expect(browser.shelf.length).toBe(1);
  service.failure = new ConnectError("away", Code.Unavailable);
  const bob = await Tab.open(browser, "bob");
  expect(bob.inbox.getSnapshot()).toMatchObject({ isLoaded: false, notifications: [] });
  expect(browser.shelf.length).toBe(0);
});

test("a token of another user in the same page drops all there is", async () => {
  const browser = newBrowser();
  service.send("for ann");
  let user = "ann";
  new Tab().enter(browser);
  service.tokenLife = 60_000;
  const inbox = open({ shareTabs: true, persist: true, getToken: () => token(user) });
  await pass(500);
  expect(titles(inbox)).toEqual(["for ann"]);
  user = "bob";
  service.failure = new ConnectError("away", Code.Unavailable);
  await pass(31_000);
  expect(inbox.getSnapshot()).toMatchObject({ isLoaded: false, notifications: [] });
});

test("what does not fit is not kept, nor is what was before", async () => {
  const browser = newBrowser();
  service.send("small");
  await Tab.open(browser);
  await pass(500);
  expect(browser.shelf.length).toBe(1);
  browser.shelf.room = 10;
  service.send("more");
  await pass(500);
  expect(browser.shelf.length).toBe(0);
});

test("eight tabs hold one stream, and all show the same", async () => {
  const browser = newBrowser();
  const tabs: Tab[] = [];
  for (let count = 0; count < 8; count += 1) tabs.push(await Tab.open(browser));
  await pass(1000);
  expect(service.followers.size).toBe(1);
  const announced = tabs.map(() => vi.fn());
  tabs.forEach((tab, at) => tab.inbox.onNotification(announced[at]!));
  service.send("to all");
  await pass(100);
  for (const tab of tabs) {
    expect(titles(tab.inbox)).toEqual(["to all"]);
    expect(tab.inbox.getSnapshot()).toMatchObject({ unreadCount: 1, status: "live" });
  }
  for (const heard of announced) expect(heard).toHaveBeenCalledTimes(1);
  await tabs[5]!.inbox.markRead([service.rows[0]!.id]);
  await pass(100);
  for (const tab of tabs) expect(tab.inbox.getSnapshot().unreadCount).toBe(0);
});

test("when the leader closes another goes on, and misses nothing", async () => {
  const browser = newBrowser();
  const first = await Tab.open(browser);
  const second = await Tab.open(browser);
  await pass(1000);
  service.send("before");
  await pass(100);
  first.inbox.stop();
  service.send("between");
  await pass(1000);
  expect(titles(second.inbox)).toEqual(["between", "before"]);
  expect(service.followers.size).toBe(1);
  expect(service.calls.filter((call) => call === "getRecent").length).toBe(1);
});

test("a visible tab takes the stream from a hidden one", async () => {
  const browser = newBrowser();
  const first = await Tab.open(browser);
  await pass(1000);
  first.show(browser, false);
  const second = await Tab.open(browser);
  await pass(1000);
  expect(service.followers.size).toBe(1);
  first.inbox.stop();
  await pass(100);
  expect(second.inbox.getSnapshot().status).toBe("live");
  expect(service.followers.size).toBe(1);
});

test("hidden, the stream is given up and a poll a minute stays; shown, it resumes", async () => {
  const browser = newBrowser();
  service.send("one");
  const first = await Tab.open(browser);
  const second = await Tab.open(browser);
  await pass(1000);
  second.show(browser, false);
  first.show(browser, false);
  await pass(4000);
  expect(service.followers.size).toBe(1);
  await pass(2000);
  expect(service.followers.size).toBe(0);
  const announced = vi.fn();
  first.inbox.onNotification(announced);
  service.send("unseen");
  service.calls.length = 0;
  await pass(61_000);
  expect(service.calls).toEqual(["getRecent"]);
  for (const tab of [first, second]) {
    expect(titles(tab.inbox)).toEqual(["unseen", "one"]);
    expect(tab.inbox.getSnapshot()).toMatchObject({ status: "polling", unreadCount: 2 });
  }
  service.calls.length = 0;
  second.show(browser, true);
  await pass(1000);
  // The poll moved no position.
  expect(service.calls[0]).toBe("subscribe after 1");
  expect(service.followers.size).toBe(1);
  expect(second.inbox.getSnapshot().status).toBe("live");
  expect(announced).not.toHaveBeenCalled();
});

test("where the browser has no locks each tab is on its own", async () => {
  vi.stubGlobal("navigator", { onLine: true });
  open({ shareTabs: true });
  open({ shareTabs: true });
  await pass(100);
  expect(service.followers.size).toBe(2);
});
