import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test, vi } from "vitest";
import type { InboxClient, InboxView, Question } from "../src/index.js";
import { enterPage, newBrowser, open, pass, service, Tab } from "./page.js";
import { seeded } from "./seeded.js";
import { refusal } from "./service.js";

const away = () => new ConnectError("away", Code.Unavailable);
const shown = (view: InboxView) => view.getSnapshot().notifications.map((row) => row.title);

/** Views of one inbox that show the four lists there are. */
function views(inbox: InboxClient) {
  const of = (question: Question) => inbox.view(question);
  return {
    inbox: of({}),
    unread: of({ show: "unread" }),
    archived: of({ show: "archived" }),
    comments: of({ types: ["comment"] }),
  };
}

const all = (open: ReturnType<typeof views>) =>
  Object.fromEntries(Object.entries(open).map(([name, view]) => [name, shown(view)]));

test("each view has the rows that answer it, and a row moves between them", async () => {
  service.send("1", undefined, { type: "comment" });
  service.send("2");
  service.send("3");
  service.archive(["id 3"]);
  const inbox = open();
  const open4 = views(inbox);
  expect(open4.inbox.getSnapshot()).toMatchObject({ isLoaded: false, hasMore: false });
  await pass(100);
  expect(all(open4)).toEqual({ inbox: ["2", "1"], unread: ["2", "1"], archived: ["3"], comments: ["1"] });
  service.mark(["id 1"]);
  service.archive(["id 2"]);
  await pass(100);
  expect(all(open4)).toEqual({ inbox: ["1"], unread: [], archived: ["3", "2"], comments: ["1"] });
  service.unarchive(["id 3"]);
  service.remove(["id 2"]);
  service.markUnread(["id 1"]);
  const { id } = service.send("4", undefined, { type: "comment" });
  await pass(100);
  expect(all(open4)).toEqual({
    ...{ inbox: ["4", "3", "1"], unread: ["4", "3", "1"] },
    ...{ archived: [], comments: ["4", "1"] },
  });
  service.replace(id, "4 again");
  await pass(100);
  expect(shown(open4.inbox)).toEqual(["4 again", "3", "1"]);
  // One stream feeds all, and each has asked for its page once.
  expect(service.calls.filter((call) => call.startsWith("subscribe")).length).toBe(1);
  expect(service.calls.filter((call) => call === "getRecent").length).toBe(5);
});

test("what is done here shows in every view at once, and what is refused in none", async () => {
  for (const title of ["1", "2", "3"]) service.send(title);
  service.archive(["id 1"]);
  const inbox = open();
  const { unread, archived } = views(inbox);
  await pass(100);
  service.failure = away();
  service.cut();
  await pass(100);
  await inbox.archive(["id 3"]);
  await inbox.unarchive(["id 1"]);
  await inbox.markRead(["id 2"]);
  expect([shown(unread), shown(archived)]).toEqual([["1"], ["3"]]);
  expect(inbox.getSnapshot().notifications.map(({ title }) => title)).toEqual(["2", "1"]);
  const before = [unread, archived].map((view) => view.getSnapshot());
  expect([unread, archived].map((view) => view.getSnapshot())).toEqual(before);
  service.failure = refusal(Code.InvalidArgument);
  inbox.retry();
  await pass(100);
  expect([shown(unread), shown(archived)]).toEqual([["3", "2"], ["1"]]);
});

test("a row of which no list has the content is asked for", async () => {
  for (let number = 1; number <= 30; number += 1) service.send(String(number));
  const inbox = open({ pageSize: 3 });
  const { unread, archived } = views(inbox);
  await pass(100);
  service.mark(service.rows.map(({ id }) => id));
  await pass(100);
  expect(shown(unread)).toEqual([]);
  expect(shown(archived)).toEqual([]);
  service.calls.length = 0;
  service.archive(["id 2"]);
  service.markUnread(["id 5"]);
  await pass(1000);
  expect(shown(archived)).toEqual(["2"]);
  expect(service.calls).toEqual(["getRecent"]);
});

test("pages of a view follow one another, and a row that did not change is the same object", async () => {
  for (let number = 1; number <= 9; number += 1) service.send(String(number));
  service.archive(service.rows.map(({ id }) => id));
  const inbox = open({ pageSize: 4 });
  const view = inbox.view({ show: "archived" });
  const heard = vi.fn();
  const { subscribe, loadMore, getSnapshot, close } = view;
  subscribe(heard);
  await pass(100);
  expect(shown(view)).toEqual(["9", "8", "7", "6"]);
  const before = getSnapshot();
  expect(before).toMatchObject({ isLoaded: true, hasMore: true, isLoadingMore: false });
  const loading = loadMore();
  expect(getSnapshot().isLoadingMore).toBe(true);
  await loading;
  await loadMore();
  expect(shown(view)).toEqual(["9", "8", "7", "6", "5", "4", "3", "2", "1"]);
  expect(getSnapshot()).toMatchObject({ hasMore: false, isLoadingMore: false });
  service.remove(["id 5"]);
  await pass(100);
  expect(getSnapshot().notifications.slice(0, 4)).toEqual(before.notifications);
  getSnapshot().notifications.slice(0, 4).forEach((row, at) => expect(row).toBe(before.notifications[at]));
  // What is none of its business changes nothing in it.
  const settled = getSnapshot();
  heard.mockClear();
  service.send("new");
  await pass(100);
  expect(getSnapshot()).toBe(settled);
  expect(heard).not.toHaveBeenCalled();
  close();
  service.unarchive(["id 9"]);
  await pass(100);
  expect(getSnapshot()).toBe(settled);
});

test("a view keeps so many rows, and brings the others back", async () => {
  const inbox = open({ keepRows: 5, pageSize: 4 });
  const view = inbox.view({ show: "unread" });
  await pass();
  for (let number = 1; number <= 12; number += 1) service.send(String(number));
  await pass(100);
  expect(shown(view)).toEqual(["12", "11", "10", "9", "8"]);
  expect(view.getSnapshot().hasMore).toBe(true);
  await view.loadMore();
  expect(shown(view).length).toBe(12);
  expect(view.getSnapshot().hasMore).toBe(false);
});

test("pages that look further than they show lose nothing that came in between", async () => {
  for (let number = 1; number <= 30; number += 1) {
    service.send(String(number), undefined, { type: number % 10 === 0 ? "comment" : "test" });
  }
  service.archive(["id 10", "id 20"]);
  // A page looks at so many.
  service.mostLookedAt = 15;
  const inbox = open({ pageSize: 2 });
  const view = inbox.view({ types: ["comment"] });
  await pass(100);
  expect(shown(view)).toEqual(["30"]);
  service.unarchive(["id 20"]);
  await pass(100);
  expect(shown(view)).toEqual(["30"]);
  while (view.getSnapshot().hasMore) await view.loadMore();
  expect(shown(view)).toEqual(["30", "20"]);
});

test("a first page that has nothing is not the end", async () => {
  for (let number = 1; number <= 30; number += 1) {
    service.send(String(number), undefined, { type: number === 2 ? "comment" : "test" });
  }
  service.mostLookedAt = 10;
  const inbox = open();
  const view = inbox.view({ types: ["comment"] });
  await pass(100);
  expect(shown(view)).toEqual(["2"]);
});

test("a view waits for the service, and begins again with another life of the store", async () => {
  service.send("1");
  const inbox = open();
  await pass(100);
  service.failure = away();
  const view = inbox.view({ show: "unread" });
  await pass(100);
  expect(view.getSnapshot()).toMatchObject({ isLoaded: false, error: { kind: "service" } });
  service.failure = undefined;
  await pass(10_000);
  expect(view.getSnapshot()).toMatchObject({ isLoaded: true, error: undefined });
  service.rows = [];
  service.revision = 0n;
  service.epoch = "the second";
  service.send("of this life");
  service.cut();
  await pass(10_000);
  expect(shown(view)).toEqual(["of this life"]);
});

test("nothing of a view is another user's", async () => {
  service.send("1");
  const { document } = enterPage();
  const inbox = open({ user: "ann", persist: false });
  const { unread } = views(inbox);
  const counts = inbox.countTypes(["test"]);
  await pass(100);
  expect(shown(unread)).toEqual(["1"]);
  expect(counts.getSnapshot()).toEqual({ test: { unreadCount: 1, hasMore: false } });
  service.isMute = true;
  inbox.start({ user: "bob" });
  expect(unread.getSnapshot()).toMatchObject({ isLoaded: false, notifications: [] });
  expect(counts.getSnapshot()).toEqual({});
  inbox.stop({ forget: true });
  await pass(10_000);
  expect(unread.getSnapshot()).toMatchObject({ isLoaded: false, notifications: [] });
  expect(document.visibilityState).toBe("visible");
});

test("while nobody looks nothing is asked for a view, and then what is missing is", async () => {
  const browser = newBrowser();
  service.send("1");
  const tab = await Tab.open(browser, "ann", true);
  const view = tab.inbox.view({ show: "unread" });
  await pass(1000);
  expect(view.getSnapshot().isLoaded).toBe(false);
  tab.show(browser, true);
  await pass(1000);
  expect(shown(view)).toEqual(["1"]);
});

test("views of every tab are in step, and where a tab missed a word it asks anew", async () => {
  const browser = newBrowser();
  for (let number = 1; number <= 30; number += 1) service.send(String(number));
  const tabs = [await Tab.open(browser), await Tab.open(browser)];
  const open4 = tabs.map(({ inbox }) => views(inbox));
  await pass(1000);
  const lists = () => open4.map(({ archived }) => shown(archived));
  service.archive(["id 30", "id 2"]);
  await pass(1000);
  expect(lists()).toEqual([["30", "2"], ["30", "2"]]);
  service.calls.length = 0;
  service.archive(["id 29"]);
  service.unarchive(["id 30"]);
  await pass(1000);
  expect(lists()).toEqual([["29", "2"], ["29", "2"]]);
  expect(service.calls).toEqual([]);
  for (const channel of tabs[1]!.channels) channel.hangs = true;
  service.archive(["id 28"]);
  await pass(1000);
  for (const channel of tabs[1]!.channels) channel.hangs = false;
  service.send("31");
  await pass(1000);
  expect(lists()).toEqual([["29", "28", "2"], ["29", "28", "2"]]);
  // Who takes the lead goes on with what it has.
  tabs[0]!.inbox.stop();
  await pass(1000);
  service.calls.length = 0;
  service.unarchive(["id 28"]);
  await pass(1000);
  expect(shown(open4[1]!.archived)).toEqual(["29", "2"]);
  expect(service.calls).toEqual([]);
});

test("counts of types are asked for again when something of them changed", async () => {
  service.send("1", undefined, { type: "comment" });
  service.send("2");
  const inbox = open();
  const counter = inbox.countTypes(["comment", "review"]);
  const heard = vi.fn();
  counter.subscribe(heard);
  expect(counter.getSnapshot()).toEqual({});
  await pass(100);
  const of = (comment: number) => ({
    comment: { unreadCount: comment, hasMore: false },
    review: { unreadCount: 0, hasMore: false },
  });
  expect(counter.getSnapshot()).toEqual(of(1));
  service.calls.length = 0;
  for (let number = 0; number < 50; number += 1) service.send("3", undefined, { type: "comment" });
  await pass(1000);
  expect(counter.getSnapshot()).toEqual(of(51));
  expect(service.calls.length).toBeLessThanOrEqual(2);
  expect(heard.mock.calls.length).toBeLessThanOrEqual(4);
  service.calls.length = 0;
  service.send("of another type");
  await pass(1000);
  expect(service.calls).toEqual([]);
  await inbox.markAllRead({ types: ["comment"] });
  await pass(1000);
  expect(counter.getSnapshot()).toEqual(of(0));
  const settled = counter.getSnapshot();
  // An answer that says the same is the same.
  service.update("id 1", "corrected");
  await pass(1000);
  expect(counter.getSnapshot()).toBe(settled);
});

/** What the service has of a list, down to the oldest that the view shows. */
function expected(question: Question, view: InboxView): string[] {
  const { notifications, hasMore } = view.getSnapshot();
  const oldest = hasMore ? (notifications.at(-1)?.sequence ?? Number.POSITIVE_INFINITY) : 0;
  return service.rows
    .filter((row) => !row.removedAt && !!row.archivedAt === (question.show === "archived"))
    .filter((row) => question.show !== "unread" || !row.readAt)
    .filter((row) => !question.types || question.types.includes(row.type))
    .filter((row) => Number(row.sequence) >= oldest)
    .map((row) => `${row.id} at ${row.revision}`)
    .toReversed();
}

describe("whatever happens, views of two tabs end as the service has them", () => {
  const questions: Question[] = [
    {},
    { show: "unread" },
    { show: "archived" },
    { types: ["comment"] },
    { show: "archived", types: ["comment"] },
    { show: "unread", types: ["comment", "other"] },
  ];
  for (let seed = 1; seed <= 60; seed += 1) {
    test(`seed ${seed}`, async () => {
      const below = seeded(seed);
      const pick = <T>(from: readonly T[]) => from[below(from.length)]!;
      service.mostQueued = pick([3, Number.POSITIVE_INFINITY]);
      service.mostLookedAt = pick([4, Number.POSITIVE_INFINITY]);
      const ids = () => service.rows.map(({ id }) => id).filter(() => below(4) === 0);
      const send = () => service.send("a title", undefined, { type: pick(["comment", "other"]) });
      const act = () => {
        const verb = pick(["mark", "markUnread", "archive", "unarchive", "remove", "expire"] as const);
        if (below(3) === 0) service[verb](ids());
        else if (below(8) === 0) service.replace(pick(service.rows)?.id ?? "", "in its place");
        else if (below(8) === 0) service.update(pick(service.rows)?.id ?? "", `corrected ${service.revision}`);
        else send();
      };
      for (let count = below(30); count >= 0; count -= 1) send();
      service.archive(ids());
      const browser = newBrowser();
      const options = { keepRows: pick([4, 200]), pageSize: pick([3, 20]) };
      const tabs = [await Tab.open(browser, "ann", false, options), await Tab.open(browser, "ann", false, options)];
      const opened = tabs.flatMap(({ inbox }) => questions.map((question) => inbox.view(question)));
      for (let round = 0; round < 12; round += 1) {
        for (let count = below(8); count > 0; count -= 1) act();
        const inbox = pick(tabs).inbox;
        const verb = pick(["markRead", "markUnread", "archive", "unarchive", "remove"] as const);
        if (below(2) === 0) await inbox[verb](ids().slice(0, 3));
        if (below(6) === 0) await inbox[verb]({ all: true, types: pick([undefined, ["comment"]]) }).catch(() => undefined);
        if (below(3) === 0) void pick(opened).loadMore().catch(() => undefined);
        if (below(3) === 0) void inbox.loadMore().catch(() => undefined);
        if (below(6) === 0) service.cut();
        if (below(9) === 0) service.failure = away();
        if (below(9) === 0) service.say({ event: { case: "reset", value: { epoch: service.epoch } } });
        await pass(pick([0, 60, 400]));
        service.failure = undefined;
        if (below(8) === 0) {
          const tab = pick(tabs);
          tab.show(browser, tab.document.visibilityState === "hidden");
          await pass(pick([0, 6000]));
        }
      }
      for (const tab of tabs) tab.show(browser, true);
      await pass(1000);
      for (const { inbox } of tabs) inbox.retry();
      await pass(60_000);
      for (const [at, view] of opened.entries()) {
        const question = questions[at % questions.length]!;
        const rows = view.getSnapshot().notifications.map((row) => `${row.id} at ${row.revision}`);
        expect(rows, JSON.stringify(question)).toEqual(expected(question, view));
      }
      for (const { inbox } of tabs) {
        const { unreadCount, revision, pendingMarks } = inbox.getSnapshot();
        expect({ unreadCount, revision, pendingMarks }).toEqual({
          unreadCount: service.unreadCount,
          revision: Number(service.revision),
          pendingMarks: 0,
        });
        for (const row of inbox.getSnapshot().notifications) {
          const held = service.rows.find(({ id }) => id === row.id)!;
          expect([row.revision, !row.readAt]).toEqual([Number(held.revision), !held.readAt]);
        }
      }
    });
  }
});
