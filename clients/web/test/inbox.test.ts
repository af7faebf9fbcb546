import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";
import type { Notification, Snapshot } from "../src/index.js";
import { enterPage, newBrowser, open, pass, service, Tab, titles } from "./page.js";
import { refusal } from "./service.js";
import { Channel, token } from "./tabs.js";

test("loads, goes live, and announces only what is new", async () => {
  service.send("old");
  const inbox = open();
  const announced: string[] = [];
  inbox.onNotification((rows) => announced.push(...rows.map(({ title }) => title)));
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
  await pass(100);
  const before = inbox.getSnapshot();
  expect(inbox.getSnapshot()).toBe(before);
  const heard = vi.fn();
  const forget = inbox.subscribe(heard);
  // At once, as stores of other frameworks do.
  expect(heard.mock.calls).toEqual([[before]]);
  heard.mockClear();
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

test("a heartbeat that brings nothing changes nothing, writes nothing and tells nobody", async () => {
  const browser = newBrowser();
  service.send("one");
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  const before = tabs.map(({ inbox }) => inbox.getSnapshot());
  browser.shelf.written = 0;
  Channel.said = 0;
  for (let beat = 0; beat < 3; beat += 1) {
    service.say({ event: { case: "heartbeat", value: {} } });
    await pass(1000);
  }
  expect(browser.shelf.written).toBe(0);
  expect(Channel.said).toBe(0);
  // Nor does an answer that only repeats what is known.
  tabs[1]!.show(browser, true);
  await pass(1000);
  expect(Channel.said).toBeGreaterThan(0);
  expect(tabs.map(({ inbox }) => inbox.getSnapshot())).toEqual(before);
  tabs.forEach(({ inbox }, at) => expect(inbox.getSnapshot()).toBe(before[at]));
  service.send("two");
  await pass(1000);
  expect(browser.shelf.written).toBeGreaterThan(0);
  for (const { inbox } of tabs) expect(titles(inbox)).toEqual(["two", "one"]);
});

test("a listener that throws ends no stream", async () => {
  const inbox = open();
  inbox.subscribe(() => {
    throw new Error("the page's own");
  });
  inbox.onNotification(() => {
    throw new Error("the page's own");
  });
  const heard = vi.fn();
  inbox.onNotification(heard);
  await pass();
  service.send("new");
  await pass(100);
  expect(heard).toHaveBeenCalledOnce();
  expect(inbox.getSnapshot().status).toBe("live");
  expect(service.calls.length).toBe(2);
  expect(console.error).toHaveBeenCalled();
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

test("a token that is refused is replaced at once", async () => {
  service.accepted = token("ann", 1000);
  const inbox = open({ getToken: (fresh) => token("ann", fresh ? 1000 : 2000) });
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
  expect(service.calls.length).toBe(3);
});

test("no refusal is final: it is tried more slowly, and at once when there is a reason", async () => {
  const { document, window } = enterPage();
  let life = 3_600_000;
  service.accepted = "no token at all";
  const inbox = open({ getToken: () => token("ann", life) });
  await pass();
  expect(service.calls.length).toBe(2);
  await pass(600_000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "reconnecting", error: { kind: "refused" } });
  expect(console.error).toHaveBeenCalledOnce();
  // Half of a minute at the most, which is the bound with half of chance.
  const before = service.calls.length;
  expect(before).toBeLessThan(30);
  await pass(60_000);
  expect(service.calls.length).toBeGreaterThanOrEqual(before + 1);
  for (const reason of [
    () => document.dispatchEvent(new Event("visibilitychange")),
    () => window.dispatchEvent(new Event("online")),
    () => inbox.retry(),
  ]) {
    await pass(1000);
    service.calls.length = 0;
    reason();
    await pass();
    expect(service.calls.length).toBe(1);
  }
  // Another token, which came for another call.
  await pass(1000);
  life = 7_200_000;
  service.accepted = token("ann", life);
  await inbox.markRead(["id 1"]);
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
});

test("while nobody is signed in it asks for a token, and what is no JWT is refused", async () => {
  let answer: unknown = "<!doctype html><h1>Bad gateway</h1>";
  let isFailing = false;
  const getToken = async () => {
    if (isFailing) throw new Error("401");
    return answer as string;
  };
  const inbox = open({ getToken });
  await pass(5000);
  expect(service.calls).toEqual([]);
  expect(inbox.getSnapshot()).toMatchObject({ status: "reconnecting", error: { kind: "token" } });
  expect(inbox.getSnapshot().error?.message).toContain("a page of HTML");
  expect(console.error).toHaveBeenCalledOnce();
  for (const nothing of [undefined, null, "", { token: "x" }, "opaque"]) {
    answer = nothing;
    await pass(60_000);
    expect(service.calls).toEqual([]);
    expect(inbox.getSnapshot().error?.kind).toBe("token");
  }
  expect(console.error).toHaveBeenCalledOnce();
  isFailing = true;
  await pass(60_000);
  expect(inbox.getSnapshot().error?.message).toContain("401");
  isFailing = false;
  answer = `${token("ann")}\n`;
  await pass(30_000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
});

test("a token is asked for once, and again when it ends soon or was refused", async () => {
  const asked: boolean[] = [];
  const getToken = (fresh: boolean) => {
    asked.push(fresh);
    return token("ann", Date.now() + 120_000);
  };
  service.tokenLife = 120_000;
  service.heartbeatSeconds = 3600;
  const inbox = open({ getToken });
  await pass();
  service.cut();
  await pass(1000);
  await inbox.markRead([service.send("one").id]);
  await pass();
  expect(asked).toEqual([false]);
  await pass(89_500);
  expect(asked).toEqual([false, true]);
  service.cut(new ConnectError("revoked", Code.Unauthenticated));
  await pass();
  expect(asked).toEqual([false, true, true]);
  expect(inbox.getSnapshot().status).toBe("live");
});

test("a token that does not come leaves a good stream alone", async () => {
  service.tokenLife = 60_000;
  service.heartbeatSeconds = 3600;
  let hangs = false;
  let asked = 0;
  const getToken = () => {
    asked += 1;
    return hangs ? new Promise<string>(() => undefined) : token("ann");
  };
  const inbox = open({ getToken });
  await pass();
  hangs = true;
  asked = 0;
  await pass(31_000);
  expect(asked).toBe(1);
  service.send("meanwhile");
  await pass();
  expect(titles(inbox)).toEqual(["meanwhile"]);
  // It is given up after half a minute, and asked for again.
  await pass(31_000);
  expect(asked).toBe(2);
  expect(inbox.getSnapshot().status).toBe("live");
  hangs = false;
  await pass(31_000);
  expect(service.mostFollowers).toBe(2);
  expect(service.followers.size).toBe(1);
});

test("a stream falls silent while its renewal hangs, and is noticed", async () => {
  service.tokenLife = 60_000;
  service.heartbeatSeconds = 20;
  let hangs = false;
  const inbox = open({
    getToken: (fresh) =>
      hangs && fresh ? new Promise<string>(() => undefined) : token("ann", Date.now() + 60_000),
  });
  await pass();
  hangs = true;
  service.calls.length = 0;
  await pass(42_000);
  expect(service.calls).toEqual(["subscribe after 0"]);
  expect(service.followers.size).toBe(1);
  expect(inbox.getSnapshot().status).toBe("live");
});

test("a clock that is ahead does not renew without end", async () => {
  service.tokenLife = -60_000;
  open();
  await pass();
  await pass(10_000);
  expect(service.calls).toEqual(["getRecent", "subscribe after 0"]);
});

test("stopped and started again before the first token came, it begins", async () => {
  const inbox = open();
  inbox.stop();
  inbox.start();
  await pass();
  expect(inbox.getSnapshot().status).toBe("live");
  expect(service.followers.size).toBe(1);
});

test("a token that comes after the stop is nobody's", async () => {
  const answers: ((token: string) => void)[] = [];
  const inbox = open({ getToken: () => new Promise((answer) => answers.push(answer)) });
  await pass();
  inbox.stop();
  inbox.start();
  await pass();
  expect(answers.length).toBe(2);
  const [anns, bobs] = ["ann", "bob"].map((user) => token(user, Date.now() + 3_600_000));
  answers[1]!(bobs!);
  await pass();
  service.accepted = bobs;
  answers[0]!(anns!);
  await pass();
  expect(inbox.getSnapshot().status).toBe("live");
  service.send("for bob");
  await pass();
  expect(titles(inbox)).toEqual(["for bob"]);
});

test("stopped and started for somebody else, nothing of the former user stays", async () => {
  service.send("for ann");
  let user = "ann";
  const inbox = open({ getToken: () => token(user, Date.now() + 3_600_000) });
  await pass();
  expect(titles(inbox)).toEqual(["for ann"]);
  inbox.stop();
  user = "bob";
  service.failure = new ConnectError("away", Code.Unavailable);
  inbox.start();
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ isLoaded: false, unreadCount: 0 });
  expect(titles(inbox)).toEqual([]);
});

for (const next of ["ann", "bob"]) {
  test(`until a token says that ${next} is there, nothing is shown and no group joined`, async () => {
    const browser = newBrowser();
    service.send("for ann");
    let answer: () => string | Promise<string> = () => token("ann", Date.now() + 3_600_000);
    new Tab().enter(browser);
    const inbox = open({ shareTabs: true, persist: true, getToken: () => answer() });
    await pass(500);
    inbox.stop();
    expect(titles(inbox)).toEqual(["for ann"]);
    browser.locks.asked.length = 0;
    answer = () => Promise.reject(new Error("nobody is logged in"));
    inbox.start();
    const nothing = { isLoaded: false, notifications: [], unreadCount: 0, hasMore: false };
    expect(inbox.getSnapshot()).toMatchObject(nothing);
    await pass(3000);
    expect(inbox.getSnapshot()).toMatchObject({ ...nothing, status: "reconnecting" });
    expect(browser.locks.asked).toEqual([]);

    answer = () => token(next, Date.now() + 3_600_000);
    service.calls.length = 0;
    if (next === "bob") service.rows = [];
    await pass(10_000);
    expect(browser.locks.asked.map(({ name }) => name.includes(next))).toEqual([true]);
    expect(inbox.getSnapshot()).toMatchObject({ isLoaded: true, status: "live" });
    expect(titles(inbox)).toEqual(next === "ann" ? ["for ann"] : []);
    // Ann's goes on from where it was.
    expect(service.calls[0]).toBe(next === "ann" ? "subscribe after 1" : "getRecent");
  });
}

test("where tokens say nothing of whose they are, a stop forgets all", async () => {
  service.send("for ann");
  const inbox = open({ getToken: () => token(undefined), persist: true });
  await pass();
  expect(titles(inbox)).toEqual(["for ann"]);
  const marked = inbox.markRead([service.rows[0]!.id]);
  while (!service.calls.includes("markRead")) await Promise.resolve();
  inbox.stop();
  await marked;
  expect(inbox.getSnapshot()).toMatchObject({ isLoaded: false, unreadCount: 0, revision: 0 });
  service.calls.length = 0;
  inbox.start();
  await pass();
  expect(service.calls[0]).toBe("getRecent");
});

test("streams that end right after they began come ever later", async () => {
  open();
  await pass();
  service.calls.length = 0;
  for (let second = 0; second < 60; second += 1) {
    await pass(1000);
    service.cut();
  }
  // The waits are half of 500 ms, of 1 s, of 2 s, …, and end within a minute.
  expect(service.calls.length).toBeLessThan(12);
  // Once one has lasted, the next failure is a first one.
  await pass(60_000);
  service.calls.length = 0;
  service.cut();
  await pass(300);
  expect(service.calls.length).toBe(1);
});

test("a stream that lasted makes up for failures, however it ended", async () => {
  service.failure = new ConnectError("away", Code.Unavailable);
  const inbox = open();
  await pass(20_000);
  service.failure = undefined;
  await pass(60_000);
  expect(inbox.getSnapshot().status).toBe("live");
  inbox.stop();
  service.failure = new ConnectError("away", Code.Unavailable);
  service.calls.length = 0;
  inbox.start();
  await pass();
  expect(service.calls.length).toBe(1);
  await pass(300);
  expect(service.calls.length).toBe(2);
});

test("a burst that is healed rings for what is new, once, and for nothing else", async () => {
  service.mostQueued = 3;
  for (let number = 1; number <= 3; number += 1) service.send(`old ${number}`);
  const inbox = open({ pageSize: 1 });
  const announced: string[] = [];
  inbox.onNotification((rows) => announced.push(...rows.map(({ title }) => title)));
  await pass();
  service.mark(service.rows.map((row) => row.id));
  const added = Array.from({ length: 6 }, (_, at) => service.send(`new ${at + 1}`).title);
  await pass(100);
  expect(announced).toEqual(added);
  expect(titles(inbox).slice(0, 6)).toEqual(added.toReversed());
  // What comes in a replay is there, and silent.
  service.cut();
  await pass();
  for (let number = 1; number <= 6; number += 1) service.send(`missed ${number}`);
  await pass(1000);
  expect(titles(inbox)[0]).toBe("missed 6");
  expect(announced).toEqual(added);
});

test("a service that resets again and again is asked ever later", async () => {
  open();
  await pass();
  service.calls.length = 0;
  const reset = { case: "reset" as const, value: { epoch: service.epoch } };
  service.say({ event: reset });
  await pass();
  expect(service.calls).toEqual(["getRecent", "subscribe after 0"]);
  for (let tenth = 0; tenth < 100; tenth += 1) {
    service.say({ event: reset });
    await pass(100);
  }
  expect(service.calls.length).toBeLessThan(2 * 8);
});

test("who is refused for load waits as it is asked to", async () => {
  service.failure = new ConnectError("busy", Code.ResourceExhausted);
  // Its first field, a duration, of which the first field is 20 seconds.
  const value = Uint8Array.of(0x0a, 2, 0x08, 20);
  service.failure.details.push({ type: "google.rpc.RetryInfo", value });
  open();
  await pass();
  expect(service.calls.length).toBe(1);
  await pass(20_200);
  expect(service.calls.length).toBe(1);
  await pass(100);
  expect(service.calls.length).toBe(2);
});

test("a call that is never answered ends, and the mark is held", async () => {
  const one = service.send("one");
  const inbox = open();
  await pass();
  service.isMute = true;
  const marked = inbox.markRead([one.id]);
  await pass(15_100);
  await marked;
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 1, unreadCount: 1 });
  service.isMute = false;
  await pass(1000);
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 0, unreadCount: 0 });
});

test("a replay of thousands is told in few words", async () => {
  const browser = newBrowser();
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  const heard = tabs.map(({ inbox }) => {
    const listener = vi.fn();
    inbox.subscribe(listener);
    return listener;
  });
  service.cut();
  await pass();
  for (let number = 1; number <= 3000; number += 1) service.send(`number ${number}`);
  Channel.said = 0;
  await pass(2000);
  for (const { inbox } of tabs) {
    expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 3000, hasMore: true });
    expect(titles(inbox).length).toBe(200);
  }
  expect(Channel.said).toBeLessThan(50);
  for (const listener of heard) expect(listener.mock.calls.length).toBeLessThan(50);
});

test("what a proxy refuses while the service is away is tried again", async () => {
  for (const code of [Code.PermissionDenied, Code.Unimplemented, Code.NotFound]) {
    service.failure = new ConnectError("HTTP 404", code);
    const inbox = open();
    await pass();
    expect(inbox.getSnapshot().status).toBe("reconnecting");
    service.failure = undefined;
    await pass(1000);
    expect(inbox.getSnapshot().status).toBe("live");
  }
});

test("what is not allowed is said to have failed, and tried again seldom", async () => {
  service.failure = refusal(Code.PermissionDenied);
  const inbox = open();
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ status: "failed", error: { kind: "refused" } });
  const statuses = new Set<string>();
  inbox.subscribe(({ status }) => statuses.add(status));
  await pass(600_000);
  expect([...statuses]).toEqual(["failed"]);
  expect(service.calls.length).toBeLessThan(30);
  service.failure = undefined;
  await pass(60_000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
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
  expect(inbox.getSnapshot()).toMatchObject({ revision: 1, unreadCount: 1 });
});

test("an event of a kind to come is a reason to load anew", async () => {
  service.send("one");
  const inbox = open();
  await pass();
  service.revision += 1n;
  service.say({});
  await pass(100);
  expect(service.calls.filter((call) => call === "getRecent").length).toBe(2);
  expect(inbox.getSnapshot()).toMatchObject({ revision: 2, status: "live" });
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

test("marking shows at once, the count with the answer, and nothing stays of a failure", async () => {
  const first = service.send("one");
  service.send("two");
  const inbox = open();
  await pass();
  const marked = inbox.markRead([first.id]);
  expect(inbox.getSnapshot().notifications[1]?.readAt).toBeDefined();
  expect(inbox.getSnapshot().unreadCount).toBe(2);
  await marked;
  expect(inbox.getSnapshot().unreadCount).toBe(1);
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 1, revision: 3 });

  service.failure = refusal(Code.PermissionDenied);
  const failed = inbox.markRead([service.rows[1]!.id]);
  expect(inbox.getSnapshot().notifications[0]?.readAt).toBeDefined();
  await expect(failed).rejects.toThrow("no");
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 1, pendingMarks: 0 });
  expect(inbox.getSnapshot().notifications[0]?.readAt).toBeUndefined();
});

test("more than one call takes are marked in several", async () => {
  for (let number = 1; number <= 501; number += 1) service.send(`number ${number}`);
  const inbox = open();
  await pass();
  await inbox.markRead(service.rows.map((row) => row.id));
  expect(service.calls.filter((call) => call === "markRead").length).toBe(2);
  expect(inbox.getSnapshot().unreadCount).toBe(0);
  expect(inbox.getSnapshot().notifications.every((row) => row.readAt)).toBe(true);
});

test("a mark before the first token waits for it, and its answer counts", async () => {
  const [one] = [service.send("one"), service.send("two")];
  let answer = (_: string) => undefined as void;
  const inbox = open({ getToken: () => new Promise((given) => (answer = given)) });
  // Only the answer to the mark tells of the count.
  inbox.stop();
  const marked = inbox.markRead([one.id]);
  expect(inbox.getSnapshot().notifications).toEqual([]);
  answer(token("ann", Date.now() + 3_600_000));
  await marked;
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 1, revision: 3 });
});

test("who marks what is being marked hears how that ends", async () => {
  const one = service.send("one");
  const inbox = open();
  await pass();
  service.failure = refusal(Code.PermissionDenied);
  const both = [inbox.markRead([one.id]), inbox.markRead([one.id])];
  for (const { status } of await Promise.allSettled(both)) expect(status).toBe("rejected");
  expect(service.calls.filter((call) => call === "markRead").length).toBe(1);
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

test("a reload shows the inbox at once, and resumes", async () => {
  const browser = newBrowser();
  service.send("kept");
  const tab = await Tab.open(browser);
  await pass(500);
  tab.inbox.stop();
  service.send("meanwhile");
  service.calls.length = 0;
  service.failure = new ConnectError("away", Code.Unavailable);
  const again = open({ persist: true });
  await pass();
  expect(titles(again)).toEqual(["kept"]);
  service.failure = undefined;
  await pass(500);
  expect(titles(again)).toEqual(["meanwhile", "kept"]);
  expect(new Set(service.calls)).toEqual(new Set(["subscribe after 1"]));
});

test("a long list is kept in part, and grows again where one scrolls", async () => {
  const browser = newBrowser();
  for (let number = 1; number <= 170; number += 1) service.send(`number ${number}`);
  const tab = await Tab.open(browser);
  await pass(500);
  for (let page = 2; page <= 7; page += 1) await tab.inbox.loadMore();
  expect(titles(tab.inbox).length).toBe(140);
  await pass(500);
  tab.inbox.stop();
  for (let number = 171; number <= 290; number += 1) service.send(`number ${number}`);
  const { inbox } = await Tab.open(browser);
  await pass(500);
  const before = titles(inbox).length;
  // Of more, the oldest have left it.
  expect(before).toBe(200);
  const newest = Array.from({ length: 290 }, (_, at) => `number ${290 - at}`);
  await inbox.loadMore();
  const after = titles(inbox).length;
  expect(after).toBeGreaterThan(before);
  expect(titles(inbox)).toEqual(newest.slice(0, after));
  while (inbox.getSnapshot().hasMore) await inbox.loadMore();
  expect(titles(inbox)).toEqual(newest);
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
  second.inbox.onNotification(announced);
  for (const title of ["one more", "unseen"]) service.send(title);
  service.send("silent", undefined, { ringRevision: 0n });
  service.calls.length = 0;
  await pass(61_000);
  expect(service.calls).toEqual(["getUnreadCount", "getRecent"]);
  for (const tab of [first, second]) {
    expect(titles(tab.inbox)).toEqual(["silent", "unseen", "one more", "one"]);
    expect(tab.inbox.getSnapshot()).toMatchObject({ status: "polling", unreadCount: 4 });
  }
  // What the poll has found is told in one go, in the order in which it came, and one tab
  // is told that it is the one to act on it.
  const told = announced.mock.calls.map(([rows, how]) => [how, ...rows.map((row: Notification) => row.title)]);
  expect(told).toEqual(Array(2).fill(["polled", "one more", "unseen"]));
  expect(announced.mock.calls.map(([, , leads]) => leads).sort()).toEqual([false, true]);
  announced.mockClear();
  service.calls.length = 0;
  second.show(browser, true);
  await pass(1000);
  // The poll moved no position.
  expect(service.calls[0]).toBe("subscribe after 1");
  expect(service.followers.size).toBe(1);
  expect(second.inbox.getSnapshot().status).toBe("live");
  expect(announced).not.toHaveBeenCalled();
});

test("a poll that cannot go on loads anew", async () => {
  const browser = newBrowser();
  service.send("one");
  const { inbox } = await Tab.open(browser, "ann", true);
  await pass(1000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "polling", unreadCount: 1 });
  // More than one answer has: between them and the list would be a gap.
  for (let number = 1; number <= 101; number += 1) service.send(`number ${number}`);
  service.calls.length = 0;
  await pass(60_000);
  expect(service.calls).toEqual(["getUnreadCount", "getRecent"]);
  expect(titles(inbox).length).toBe(20);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 102, hasMore: true });
  // Another life of the store.
  service.rows = [];
  service.revision = 0n;
  service.epoch = "the second";
  service.send("of this life");
  service.calls.length = 0;
  await pass(60_000);
  expect(service.calls).toEqual(["getUnreadCount", "getRecent"]);
  expect(titles(inbox)).toEqual(["of this life"]);
  expect(inbox.getSnapshot()).toMatchObject({ revision: 1, unreadCount: 1 });
});

test("older ones are loaded in any tab, once for all that ask", async () => {
  const browser = newBrowser();
  for (let number = 1; number <= 45; number += 1) service.send(`number ${number}`);
  const tabs = [await Tab.open(browser), await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  service.calls.length = 0;
  const asked = tabs.map(({ inbox }) => inbox.loadMore());
  await pass(500);
  await Promise.all(asked);
  expect(service.calls).toEqual(["getRecent"]);
  for (const { inbox } of tabs) expect(titles(inbox).length).toBe(40);
  // What comes meanwhile is not taken for the page.
  service.failure = new ConnectError("away", Code.Unavailable);
  const failed = expect(tabs[1]!.inbox.loadMore()).rejects.toThrow(/did not answer/);
  await pass(500);
  service.send("meanwhile");
  await pass(500);
  expect(tabs[1]!.inbox.getSnapshot()).toMatchObject({ unreadCount: 46, isLoadingMore: true });
  await pass(9500);
  await failed;
  expect(tabs[1]!.inbox.getSnapshot()).toMatchObject({ hasMore: true, isLoadingMore: false });
  service.failure = undefined;
  const last = tabs[2]!.inbox.loadMore();
  await pass(500);
  await last;
  for (const { inbox } of tabs) expect(titles(inbox).length).toBe(46);
});

test("a visible tab goes on where the one with the stream hangs", async () => {
  const browser = newBrowser();
  const first = await Tab.open(browser);
  await pass(1000);
  const second = await Tab.open(browser);
  await pass(1000);
  for (const channel of first.channels) channel.hangs = true;
  service.send("unheard");
  await pass(1000);
  expect(titles(second.inbox)).toEqual([]);
  await pass(60_000);
  expect(titles(second.inbox)).toEqual(["unheard"]);
});

test("a tab that the browser freezes hands the stream on", async () => {
  const browser = newBrowser();
  const first = await Tab.open(browser);
  await pass(500);
  const second = await Tab.open(browser);
  await pass(500);
  service.calls.length = 0;
  first.enter(browser);
  first.document.dispatchEvent(new Event("freeze"));
  await pass(100);
  expect(service.calls).toEqual(["subscribe after 0"]);
  service.send("while it is frozen");
  await pass(100);
  expect(titles(second.inbox)).toEqual(["while it is frozen"]);
  expect(titles(first.inbox)).toEqual([]);
  first.document.dispatchEvent(new Event("resume"));
  await pass(500);
  expect(titles(first.inbox)).toEqual(["while it is frozen"]);
  expect(service.followers.size).toBe(1);
});

test("any tab can say to try again now", async () => {
  const browser = newBrowser();
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  service.failure = refusal(Code.PermissionDenied);
  service.cut();
  await pass(1000);
  for (const { inbox } of tabs) {
    const { status, error } = inbox.getSnapshot();
    expect(status).toBe("failed");
    expect(error).toMatchObject({ kind: "refused" });
  }
  service.failure = undefined;
  tabs[1]!.inbox.retry();
  await pass(1000);
  for (const { inbox } of tabs) {
    expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
  }
  expect(service.followers.size).toBe(1);
});

test("where the browser refuses locks or channels each tab is on its own", async () => {
  const refused = new DOMException("denied", "SecurityError");
  const locks = { request: () => Promise.reject(refused) };
  vi.stubGlobal("navigator", { onLine: true, locks });
  vi.stubGlobal("BroadcastChannel", Channel);
  const inboxes = [open({ shareTabs: true }), open({ shareTabs: true })];
  await pass(100);
  vi.stubGlobal("navigator", { onLine: true, locks: newBrowser().locks });
  vi.stubGlobal(
    "BroadcastChannel",
    class {
      constructor() {
        throw refused;
      }
    },
  );
  inboxes.push(open({ shareTabs: true }));
  await pass(1000);
  for (const inbox of inboxes) expect(inbox.getSnapshot().status).toBe("live");
  expect(service.followers.size).toBe(3);
});

test("where the browser has no locks each tab is on its own", async () => {
  vi.stubGlobal("navigator", { onLine: true });
  open({ shareTabs: true });
  open({ shareTabs: true });
  await pass(100);
  expect(service.followers.size).toBe(2);
});

test("functions may be taken off it, and what they give is plain", async () => {
  service.send("one", { amount: 7, lines: [{ text: "x" }] });
  const inbox = open();
  await pass();
  // As React, Svelte, Vue and a worker use it.
  const { subscribe, getSnapshot, markRead } = inbox;
  const heard: Snapshot[] = [];
  subscribe((snapshot) => heard.push(snapshot))();
  expect(heard).toEqual([getSnapshot()]);
  const proxy = new Proxy(inbox, {});
  expect(proxy.getSnapshot()).toBe(getSnapshot());
  const snapshot = getSnapshot();
  const [row] = snapshot.notifications;
  expect(JSON.parse(JSON.stringify(snapshot)).notifications).toEqual(snapshot.notifications);
  expect(structuredClone(snapshot)).toEqual(snapshot);
  expect(row?.data).toEqual({ amount: 7, lines: [{ text: "x" }] });
  expect(new Date(row?.createdAt ?? "").getTime()).toBe(1);
  expect(row?.createdAt).toBe("1970-01-01T00:00:00.001000Z");
  await markRead([row?.id ?? ""]);
  expect(getSnapshot().unreadCount).toBe(0);
});

test("streams that say nothing are replaced by polls, which say so, and are tried again", async () => {
  service.send("one");
  service.isHeldBack = true;
  const inbox = open();
  const announced: string[] = [];
  inbox.onNotification((rows) => announced.push(...rows.map(({ title }) => title)));
  await pass(100);
  // What calls bring is shown at once.
  expect(titles(inbox)).toEqual(["one"]);
  await pass(31_000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "delayed", error: { kind: "held" } });
  expect(console.error).toHaveBeenCalledOnce();
  service.send("two");
  service.mark(["id 1"]);
  service.calls.length = 0;
  await pass(15_000);
  expect(service.calls).toEqual(["getUnreadCount", "getRecent"]);
  expect(titles(inbox)).toEqual(["two", "one"]);
  expect(inbox.getSnapshot()).toMatchObject({ status: "delayed", unreadCount: 1 });
  expect(inbox.getSnapshot().notifications[1]?.readAt).toBeDefined();
  expect(announced).toEqual(["two"]);
  // Where nothing is new a poll is one small call, and now and then a stream is tried.
  service.calls.length = 0;
  await pass(600_000);
  const counted = service.calls.filter((call) => call === "getUnreadCount").length;
  expect(counted).toBeGreaterThan(25);
  const streams = service.calls.filter((call) => call.startsWith("subscribe"));
  expect(streams.length).toBeGreaterThanOrEqual(3);
  expect(streams.length).toBeLessThan(6);
  expect(counted + streams.length).toBe(service.calls.length);
  expect(inbox.getSnapshot().status).toBe("delayed");
  service.isHeldBack = false;
  inbox.retry();
  await pass(100);
  expect(inbox.getSnapshot()).toMatchObject({ status: "live", error: undefined });
  service.send("three");
  await pass(100);
  expect(announced).toEqual(["two", "three"]);
});

test("a poll that fails where streams are held back goes on as a poll", async () => {
  service.isHeldBack = true;
  const inbox = open();
  await pass(31_000);
  service.failure = new ConnectError("away", Code.Unavailable);
  await pass(15_000);
  expect(inbox.getSnapshot()).toMatchObject({ status: "reconnecting", error: { kind: "service" } });
  service.failure = undefined;
  service.send("one");
  await pass(2000);
  expect(inbox.getSnapshot().status).toBe("delayed");
  expect(titles(inbox)).toEqual(["one"]);
});

test("another user whom the page names empties it at once, and the former token is refused", async () => {
  service.send("for ann");
  let user = "ann";
  const asked: boolean[] = [];
  const getToken = (fresh: boolean) => {
    asked.push(fresh);
    return token(user, Date.now() + 3_600_000);
  };
  const inbox = open({ user: "ann", getToken });
  await pass(100);
  expect(inbox.getSnapshot()).toMatchObject({ user: "ann", status: "live" });
  service.rows = [];
  service.revision = 0n;
  service.calls.length = 0;
  asked.length = 0;
  inbox.start({ user: "bob" });
  const nothing = { user: "bob", notifications: [], unreadCount: 0, isLoaded: false };
  expect(inbox.getSnapshot()).toMatchObject(nothing);
  await pass(5000);
  // The page has yet to learn that ann is gone: her token opens nothing for bob.
  expect(asked.length).toBeGreaterThan(1);
  expect(service.calls).toEqual([]);
  expect(inbox.getSnapshot()).toMatchObject({ ...nothing, error: { kind: "token" } });
  user = "bob";
  service.send("for bob");
  await pass(30_000);
  expect(inbox.getSnapshot()).toMatchObject({ user: "bob", status: "live", error: undefined });
  expect(titles(inbox)).toEqual(["for bob"]);
  // And back: whom it was named for before may have it.
  user = "ann";
  inbox.start({ user: "ann" });
  expect(titles(inbox)).toEqual([]);
  await pass(100);
  expect(inbox.getSnapshot()).toMatchObject({ user: "ann", status: "live" });
});

test("where the page says who is there a reload does not wait for a token", async () => {
  const browser = newBrowser();
  new Tab().enter(browser);
  service.send("kept");
  const first = open({ user: "ann", persist: true });
  await pass(500);
  first.stop();
  let answer: (token: string) => void = () => undefined;
  const getToken = () => new Promise<string>((given) => (answer = given));
  const again = open({ user: "ann", persist: true, shareTabs: true, getToken });
  expect(titles(again)).toEqual(["kept"]);
  expect(again.getSnapshot()).toMatchObject({ isLoaded: true, status: "connecting" });
  await pass(500);
  service.calls.length = 0;
  answer(token("ann", Date.now() + 3_600_000));
  await pass(500);
  expect(service.calls).toEqual(["subscribe after 1"]);
  expect(browser.locks.asked.length).toBe(1);
  again.stop();
  // Of another person, or of another organization of hers: nothing of it stays.
  const other = open({ user: "ann", persist: true, getToken: () => token("bob") });
  expect(titles(other)).toEqual(["kept"]);
  service.failure = new ConnectError("away", Code.Unavailable);
  await pass(100);
  expect(titles(other)).toEqual([]);
  other.stop();
  const carol = open({ user: "carol", persist: true });
  expect(titles(carol)).toEqual([]);
  expect(browser.shelf.length).toBe(0);
});

test("who signs out leaves nothing behind, in no tab", async () => {
  const browser = newBrowser();
  service.send("one");
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  service.failure = new ConnectError("away", Code.Unavailable);
  await tabs[1]!.inbox.markRead(["id 1"]);
  await pass(1000);
  expect(browser.shelf.length).toBe(2);
  tabs[1]!.inbox.stop({ forget: true });
  expect(tabs[1]!.inbox.getSnapshot()).toMatchObject({ isLoaded: false, notifications: [] });
  await pass(1000);
  expect(browser.shelf.length).toBe(0);
  // Nor has it a place among the tabs any more, or a stream.
  expect([tabs[1]!.channels.length, Channel.open, browser.locks.inUse]).toEqual([1, 1, 1]);
  tabs[1]!.channels[0]!.onmessage?.({ data: { kind: "who" } });
  await pass(60_000);
  expect(tabs[1]!.inbox.getSnapshot()).toMatchObject({ isLoaded: false, status: "idle" });
  // What the others still show they do not keep.
  service.failure = undefined;
  service.send("two");
  await pass(60_000);
  expect(titles(tabs[0]!.inbox)).toEqual(["two", "one"]);
  expect(browser.shelf.length).toBe(0);
  tabs[0]!.inbox.stop({ forget: true });
  await pass(60_000);
  expect([Channel.open, browser.locks.inUse, service.followers.size, browser.shelf.length]).toEqual([0, 0, 0, 0]);
});

test("marks made while the service is away are held, and sent in their order", async () => {
  for (let number = 1; number <= 4; number += 1) service.send(`number ${number}`);
  const inbox = open();
  await pass(100);
  service.failure = new ConnectError("away", Code.Unavailable);
  service.cut();
  await pass(100);
  for (const id of ["id 3", "id 1", "id 2"]) await inbox.markRead([id]);
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 3, unreadCount: 4 });
  expect(inbox.getSnapshot().notifications.map((row) => !row.readAt)).toEqual([true, false, false, false]);
  service.marked.length = 0;
  await pass(60_000);
  expect(inbox.getSnapshot().pendingMarks).toBe(3);
  service.failure = undefined;
  inbox.retry();
  await pass(100);
  expect(service.marked).toEqual([["id 3"], ["id 1"], ["id 2"]]);
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 0, unreadCount: 1 });
  // So many are not held.
  service.failure = new ConnectError("away", Code.Unavailable);
  const many = Array.from({ length: 5001 }, (_, at) => `other ${at}`);
  await expect(inbox.markRead(many)).rejects.toThrow("too many");
  expect(inbox.getSnapshot().pendingMarks).toBe(0);
});

test("held marks survive a reload, and any tab sends them", async () => {
  const browser = newBrowser();
  service.send("one");
  service.send("two");
  const leader = await Tab.open(browser);
  const tab = await Tab.open(browser);
  await pass(1000);
  service.failure = new ConnectError("away", Code.Unavailable);
  service.cut();
  await tab.inbox.markRead(["id 1"]);
  tab.window.dispatchEvent(new Event("pagehide"));
  tab.inbox.stop();
  await pass(1000);
  const again = await Tab.open(browser);
  await pass(500);
  expect(again.inbox.getSnapshot()).toMatchObject({ pendingMarks: 1 });
  expect(again.inbox.getSnapshot().notifications[1]?.readAt).toBeDefined();
  service.failure = undefined;
  await pass(30_000);
  expect(service.marked).toEqual([["id 1"]]);
  for (const { inbox } of [leader, again]) {
    expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 0, unreadCount: 1, status: "live" });
  }
});

test("other tabs are told what changed, and unchanged rows stay as they are", async () => {
  const browser = newBrowser();
  for (let number = 1; number <= 100; number += 1) service.send(`number ${number}`);
  const leader = await Tab.open(browser);
  const follower = await Tab.open(browser);
  for (let page = 2; page <= 5; page += 1) {
    const loaded = leader.inbox.loadMore();
    await pass(100);
    await loaded;
  }
  const before = [leader, follower].map(({ inbox }) => inbox.getSnapshot().notifications);
  Channel.bytes = 0;
  await follower.inbox.markRead(["id 50"]);
  service.send("new");
  await pass(500);
  // Two rows, not a hundred of some 150 bytes each.
  expect(Channel.bytes).toBeLessThan(4000);
  [leader, follower].forEach(({ inbox }, tab) => {
    const { notifications } = inbox.getSnapshot();
    expect(notifications.length).toBe(101);
    const same = notifications.filter((row) => before[tab]!.includes(row));
    expect(same.length).toBe(99);
  });
  // A tab that missed a word asks for all of it, and announces what it has heard of.
  const announced = vi.fn();
  follower.inbox.onNotification((rows) => announced(...rows.map(({ title }) => title)));
  for (const channel of follower.channels) channel.hangs = true;
  service.send("unheard");
  await pass(100);
  for (const channel of follower.channels) channel.hangs = false;
  service.send("heard");
  await pass(100);
  expect(titles(follower.inbox).slice(0, 2)).toEqual(["heard", "unheard"]);
  expect(announced.mock.calls).toEqual([["heard"]]);
  expect(follower.inbox.getSnapshot().notifications).toContain(before[1]![0]);
});

test("a burst over a long list costs what it brings, in every tab", async () => {
  const browser = newBrowser();
  for (let number = 1; number <= 2000; number += 1) service.send(`number ${number}`);
  const tabs = [
    await Tab.open(browser, "ann", false, { pageSize: 100 }),
    await Tab.open(browser, "ann", false, { pageSize: 100 }),
  ];
  await pass(1000);
  while (tabs[0]!.inbox.getSnapshot().hasMore) {
    const loaded = tabs[0]!.inbox.loadMore();
    await pass(10);
    await loaded;
  }
  await pass(1000);
  const before = tabs.map(({ inbox }) => inbox.getSnapshot().notifications);
  expect(before.map((rows) => rows.length)).toEqual([2000, 2000]);
  const heard = tabs.map(({ inbox }) => {
    const snapshots = new Set<Snapshot>();
    inbox.subscribe((snapshot) => snapshots.add(snapshot));
    return snapshots;
  });
  const rung = tabs.map(({ inbox }) => {
    const titles: string[] = [];
    inbox.onNotification((rows) => titles.push(...rows.map(({ title }) => title)));
    return titles;
  });
  Channel.said = 0;
  Channel.bytes = 0;
  browser.shelf.written = 0;
  for (let number = 1; number <= 100; number += 1) service.send(`new ${number}`);
  await pass(1000);
  tabs.forEach(({ inbox }, tab) => {
    const { notifications, unreadCount } = inbox.getSnapshot();
    expect(unreadCount).toBe(2100);
    expect(notifications.length).toBe(2100);
    // What did not change is the object that it was: nobody has to show it anew.
    expect(notifications.slice(100).every((row, at) => row === before[tab]![at])).toBe(true);
    expect(rung[tab]).toEqual(Array.from({ length: 100 }, (_, at) => `new ${at + 1}`));
    // The first at once, and the rest as one: with the one of before.
    expect(heard[tab]!.size).toBeLessThanOrEqual(4);
  });
  // A hundred rows, not two thousand.
  expect(Channel.said).toBeLessThanOrEqual(4);
  expect(Channel.bytes).toBeLessThan(100 * 400);
  expect(browser.shelf.written).toBeLessThanOrEqual(2);
});

test("a tab that lives for weeks holds so many rows, and every count is right", async () => {
  for (let number = 1; number <= 60; number += 1) service.send(`number ${number}`);
  const inbox = open({ keepRows: 30, pageSize: 10 });
  await pass(100);
  const loaded = inbox.loadMore();
  await pass(100);
  await loaded;
  for (let day = 1; day <= 50; day += 1) {
    for (let number = 1; number <= 20; number += 1) service.send(`day ${day}, ${number}`);
    // Some are read elsewhere, listed or not.
    service.mark([`id ${day}`, `id ${60 + day}`]);
    await pass(100);
  }
  const { notifications, unreadCount, unseenCount, hasMore } = inbox.getSnapshot();
  // Thirty, and the page that was loaded after the first.
  expect(notifications.length).toBe(40);
  expect([unreadCount, unseenCount, hasMore]).toEqual([service.unreadCount, service.unseenCount, true]);
  expect(unreadCount).toBeGreaterThan(900);
});

test("who looks has seen what is listed, and nothing that comes after", async () => {
  service.send("one");
  service.send("two");
  const inbox = open();
  await pass();
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 2, unseenCount: 2, seenThrough: 0 });
  await Promise.all([inbox.markSeen(), inbox.markSeen()]);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 2, unseenCount: 0, seenThrough: 2 });
  await inbox.markSeen();
  expect(service.calls.filter((call) => call === "markSeen").length).toBe(1);
  service.send("three");
  await pass(100);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 3, unseenCount: 1 });
  // On another screen.
  service.see(4n);
  await pass(100);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 3, unseenCount: 0, seenThrough: 4 });
  expect(titles(inbox)).toEqual(["three", "two", "one"]);
});

test("who looks while the service is away has looked once it is there again", async () => {
  service.send("one");
  const inbox = open();
  await pass();
  service.failure = new ConnectError("away", Code.Unavailable);
  service.cut();
  await pass(100);
  await inbox.markSeen();
  expect(inbox.getSnapshot().unseenCount).toBe(1);
  service.send("two");
  service.failure = undefined;
  await pass(1000);
  expect(service.seenThrough).toBe(1n);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 2, unseenCount: 1, status: "live" });
  service.failure = refusal(Code.PermissionDenied);
  await expect(inbox.markSeen()).rejects.toThrow("no");
});

test("what was looked at and not told is told again, though the stream is well", async () => {
  service.send("one");
  const inbox = open();
  await pass(100);
  service.failure = new ConnectError("busy", Code.Unavailable);
  await inbox.markSeen();
  await pass(1000);
  const tried = service.calls.filter((call) => call === "markSeen").length;
  expect(tried).toBeGreaterThan(1);
  expect(tried).toBeLessThan(6);
  service.failure = undefined;
  await pass(5000);
  expect(service.seenThrough).toBe(1n);
  expect(inbox.getSnapshot()).toMatchObject({ unseenCount: 0, status: "live" });
  // Stopped, it is left alone.
  service.send("two");
  await pass(100);
  service.failure = new ConnectError("busy", Code.Unavailable);
  await inbox.markSeen();
  inbox.stop();
  service.calls.length = 0;
  await pass(60_000);
  expect(service.calls).toEqual([]);
});

test("where streams are held back a thing can be marked again", async () => {
  const about = { entityType: "invoice", entityId: "7" };
  service.send("one", undefined, about);
  service.isHeldBack = true;
  const inbox = open();
  await pass(31_000);
  expect(inbox.getSnapshot().status).toBe("delayed");
  await inbox.markRead({ about });
  service.send("two", undefined, about);
  await inbox.markRead({ about });
  expect(service.done).toEqual([
    ["markRead", "id 1"],
    ["markRead", "id 3"],
  ]);
  // One that is not loaded here, by its id.
  service.send("three");
  await inbox.markRead(["id 5"]);
  service.markUnread(["id 5"]);
  await inbox.markRead(["id 5"]);
  expect(service.unreadCount).toBe(0);
});

test("all that is shown is marked as read in one go, and what came since is not", async () => {
  for (let number = 1; number <= 45; number += 1) service.send(`number ${number}`);
  const inbox = open();
  await pass();
  service.mostChanged = 20;
  service.failure = new ConnectError("away", Code.Unavailable);
  service.cut();
  await pass(100);
  service.send("since");
  await inbox.markAllRead();
  expect(inbox.getSnapshot().notifications.every((row) => row.readAt)).toBe(true);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 45, pendingMarks: 1 });
  const before = inbox.getSnapshot().notifications;
  await inbox.markAllRead();
  expect(inbox.getSnapshot().pendingMarks).toBe(1);
  inbox.getSnapshot().notifications.forEach((row, at) => expect(row).toBe(before[at]));
  service.failure = undefined;
  inbox.retry();
  await pass(1000);
  // The service goes on by itself where it stops early.
  expect(service.marked.map((ids) => ids.length)).toEqual([20, 20, 5]);
  expect(inbox.getSnapshot()).toMatchObject({ unreadCount: 1, pendingMarks: 0, status: "live" });
  expect(titles(inbox)[0]).toBe("since");
  expect(inbox.getSnapshot().notifications.map((row) => !row.readAt).indexOf(true, 1)).toBe(-1);
  await inbox.markAllRead();
  await pass(100);
  expect(inbox.getSnapshot().unreadCount).toBe(0);
  service.marked.length = 0;
  await inbox.markAllRead();
  expect(service.marked).toEqual([]);
});

test("what a poll has shown is marked as read, too", async () => {
  service.isHeldBack = true;
  const inbox = open();
  await pass(31_000);
  service.send("polled");
  await pass(15_000);
  expect(titles(inbox)).toEqual(["polled"]);
  await inbox.markAllRead();
  expect(service.marked).toEqual([["id 1"]]);
  expect(inbox.getSnapshot().unreadCount).toBe(0);
});

test("a mark of all survives a reload, and of another life of the store it is taken back", async () => {
  const browser = newBrowser();
  service.send("one");
  const first = await Tab.open(browser);
  await pass(1000);
  service.failure = new ConnectError("away", Code.Unavailable);
  service.cut();
  await first.inbox.markAllRead();
  first.window.dispatchEvent(new Event("pagehide"));
  first.inbox.stop();
  const { inbox } = await Tab.open(browser);
  await pass(500);
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 1, unreadCount: 1 });
  expect(inbox.getSnapshot().notifications[0]?.readAt).toBeDefined();
  service.epoch = "the second";
  service.send("two");
  service.failure = undefined;
  await pass(30_000);
  expect(inbox.getSnapshot()).toMatchObject({ pendingMarks: 0, unreadCount: 2, status: "live" });
  expect(inbox.getSnapshot().notifications.map((row) => !row.readAt)).toEqual([true, true]);
  expect(browser.shelf.length).toBe(1);
});

test("where the service does not know the position, any tab has it loaded anew", async () => {
  const browser = newBrowser();
  service.send("one");
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  await pass(1000);
  for (const [at, { inbox }] of tabs.entries()) {
    // The streams have yet to learn of it.
    service.epoch = `another ${at}`;
    service.calls.length = 0;
    const call = at === 0 ? inbox.markAllRead() : inbox.markSeen();
    await expect(call).rejects.toThrow("no");
    await pass(1000);
    expect(service.calls.slice(1)).toEqual(["getRecent", "subscribe after 1"]);
    for (const tab of tabs) {
      expect(tab.inbox.getSnapshot()).toMatchObject({ unreadCount: 1, status: "live" });
    }
  }
  await tabs[1]!.inbox.markAllRead();
  await pass(1000);
  for (const { inbox } of tabs) expect(inbox.getSnapshot().unreadCount).toBe(0);
});

test("what is marked as a whole or looked at is never another user's", async () => {
  service.send("for ann");
  for (const mark of ["markAllRead", "markSeen"] as const) {
    let user = "ann";
    const inbox = open({ getToken: () => token(user, Date.now() + 120_000) });
    await pass();
    expect(titles(inbox)).toEqual(["for ann"]);
    // Her token ends, and the page has another's by then.
    await pass(110_000);
    user = "bob";
    await inbox[mark]();
    await pass();
    inbox.stop();
    // Until a token says who is there nothing is shown, and nothing marked.
    inbox.start();
    const unknown = [inbox.markSeen(), inbox.markAllRead()];
    inbox.stop();
    const ends = await Promise.allSettled(unknown);
    expect(ends.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  }
  expect(service.calls.filter((call) => call.startsWith("mark"))).toEqual([]);
});
