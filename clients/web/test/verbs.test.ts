import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test, vi } from "vitest";
import type { InboxClient } from "../src/index.js";
import { newBrowser, open, pass, service, Tab, titles } from "./page.js";
import { refusal } from "./service.js";

const away = () => new ConnectError("away", Code.Unavailable);

/** What is listed: the number in each title, and `r` where it is read. */
const listed = (inbox: InboxClient) =>
  inbox.getSnapshot().notifications.map((row) => row.title + (row.readAt ? "r" : ""));

/** Three notifications, of which the second is read, shown live. */
async function three(): Promise<InboxClient> {
  for (const title of ["1", "2", "3"]) service.send(title);
  service.mark(["id 2"]);
  const inbox = open();
  await pass(100);
  return inbox;
}

describe("each verb shows at once, is taken back where it is refused, and is what the service does", () => {
  const cases = {
    markRead: { ids: ["id 1", "id 2"], shown: ["3", "2r", "1r"] },
    markUnread: { ids: ["id 1", "id 2"], shown: ["3", "2", "1"] },
    archive: { ids: ["id 1", "id 2"], shown: ["3"] },
    remove: { ids: ["id 3"], shown: ["2r", "1"] },
  } as const;
  for (const [name, { ids, shown }] of Object.entries(cases)) {
    const verb = name as keyof typeof cases;
    test(verb, async () => {
      const inbox = await three();
      service.failure = refusal(Code.InvalidArgument);
      const refused = inbox[verb](ids);
      expect(listed(inbox)).toEqual(shown);
      await expect(refused).rejects.toThrow();
      expect(listed(inbox)).toEqual(["3", "2r", "1"]);
      service.failure = undefined;
      const done = inbox[verb](ids);
      expect(listed(inbox)).toEqual(shown);
      await done;
      await pass(100);
      expect(listed(inbox)).toEqual(shown);
      expect(inbox.getSnapshot().unreadCount).toBe(service.unreadCount);
      expect(service.done[0]?.[0]).toBe(verb);
      // Where nothing would change nothing is sent.
      service.calls.length = 0;
      await inbox[verb](ids);
      expect(service.calls).toEqual(verb === "archive" || verb === "remove" ? [verb] : []);
    });
  }
});

test("what is archived comes back as it was, before the service knows of either", async () => {
  const inbox = await three();
  service.failure = away();
  service.cut();
  await pass(100);
  const before = inbox.getSnapshot().notifications;
  await inbox.archive(["id 2", "id 3"]);
  expect(listed(inbox)).toEqual(["1"]);
  await inbox.unarchive(["id 2", "id 3"]);
  expect(listed(inbox)).toEqual(["3", "2r", "1"]);
  expect(inbox.getSnapshot().notifications[2]).toBe(before[2]);
  expect(inbox.getSnapshot().pendingMarks).toBe(4);
  service.failure = undefined;
  inbox.retry();
  await pass(1000);
  expect(service.done).toEqual([
    ["archive", "id 2", "id 3"],
    ["unarchive", "id 2", "id 3"],
  ]);
  expect(listed(inbox)).toEqual(["3", "2r", "1"]);
  expect(inbox.getSnapshot().pendingMarks).toBe(0);
});

test("verbs on the same row are all sent, in their order", async () => {
  const inbox = await three();
  service.failure = away();
  service.cut();
  await pass(100);
  const { markRead, markUnread, remove } = inbox;
  await markRead(["id 1"]);
  await markUnread(["id 1"]);
  await markRead(["id 1"]);
  expect(listed(inbox)).toEqual(["3", "2r", "1r"]);
  await remove(["id 1"]);
  // It is gone for good.
  await markUnread(["id 1"]);
  expect(listed(inbox)).toEqual(["3", "2r"]);
  service.failure = undefined;
  inbox.retry();
  await pass(1000);
  const verbs = service.done.map(([verb]) => verb);
  expect(verbs).toEqual(["markRead", "markUnread", "markRead", "remove"]);
});

test("what is about a thing is read where the thing was opened, and nothing else", async () => {
  const about = { entityType: "invoice", entityId: "7" };
  service.send("1", undefined, about);
  service.send("2", undefined, { ...about, entityId: "8" });
  service.send("3", undefined, about);
  const inbox = open();
  await pass(100);
  const done = inbox.markRead({ about });
  expect(listed(inbox)).toEqual(["3r", "2", "1r"]);
  await done;
  await pass(100);
  expect(listed(inbox)).toEqual(["3r", "2", "1r"]);
  expect(service.done).toEqual([["markRead", "id 1", "id 3"]]);
});

test("all that is shown is archived, of some types too, and what came since is not", async () => {
  service.send("1", undefined, { type: "comment" });
  service.send("2");
  const inbox = open();
  await pass(100);
  service.mostChanged = 1;
  const some = inbox.archiveAll({ types: ["comment"] });
  expect(listed(inbox)).toEqual(["2"]);
  await some;
  await pass(100);
  expect(service.done).toEqual([["archive", "id 1"]]);
  service.failure = away();
  service.cut();
  await pass(100);
  await inbox.archiveAll();
  expect(listed(inbox)).toEqual([]);
  service.failure = undefined;
  service.send("3");
  inbox.retry();
  await pass(1000);
  expect(listed(inbox)).toEqual(["3"]);
  expect(service.rows.map((row) => !!row.archivedAt)).toEqual([true, true, false]);
});

test("what is being marked is part of all that is shown, whatever its revision is by then", async () => {
  const inbox = await three();
  service.failure = away();
  service.cut();
  await pass(100);
  await inbox.markRead(["id 1"]);
  await inbox.archiveAll();
  expect(listed(inbox)).toEqual([]);
  service.failure = undefined;
  service.send("4");
  inbox.retry();
  await pass(1000);
  expect(listed(inbox)).toEqual(["4"]);
  expect(service.rows.map((row) => [!!row.readAt, !!row.archivedAt])).toEqual([
    [true, true],
    [true, true],
    [false, true],
    [false, false],
  ]);
});

test("a change of all that stops early is asked for again until it is through", async () => {
  for (let number = 1; number <= 7; number += 1) service.send(String(number));
  service.mostChanged = 3;
  const inbox = open();
  await pass(100);
  await inbox.archiveAll();
  await pass(100);
  expect(service.done.map(([, ...ids]) => ids.length)).toEqual([3, 3, 1]);
  expect(listed(inbox)).toEqual([]);
});

test("what others did meanwhile stands: a mark shows no longer than until the stream knows it", async () => {
  const inbox = await three();
  await inbox.archive(["id 1"]);
  service.unarchive(["id 1"]);
  await pass(100);
  expect(listed(inbox)).toEqual(["3", "2r", "1"]);
  await inbox.markRead(["id 1"]);
  service.markUnread(["id 1"]);
  await pass(100);
  expect(listed(inbox)).toEqual(["3", "2r", "1"]);
});

test("what is held of each verb survives a reload", async () => {
  const browser = newBrowser();
  for (const title of ["1", "2", "3"]) service.send(title);
  const tab = await Tab.open(browser);
  await pass(1000);
  service.failure = away();
  service.cut();
  await tab.inbox.archive(["id 1"]);
  await tab.inbox.remove(["id 2"]);
  await tab.inbox.markRead({ all: true });
  await pass(1000);
  tab.inbox.stop();
  const next = await Tab.open(browser);
  expect(listed(next.inbox)).toEqual(["3r"]);
  expect(next.inbox.getSnapshot().pendingMarks).toBe(3);
  service.failure = undefined;
  next.inbox.retry();
  await pass(1000);
  expect(service.done).toEqual([
    ["archive", "id 1"],
    ["remove", "id 2"],
    ["markRead", "id 3"],
  ]);
  expect(listed(next.inbox)).toEqual(["3r"]);
});

test("what another version has kept of marks is left alone", async () => {
  const browser = newBrowser();
  service.send("1");
  browser.shelf.setItem(
    `doorbell:http://doorbell.test:${JSON.stringify(["acme", "ann"])}:marks:0`,
    JSON.stringify(["id 1", null, { verb: "dance", what: "id 1" }]),
  );
  const { inbox } = await Tab.open(browser);
  await pass(1000);
  expect(titles(inbox)).toEqual(["1"]);
  expect(service.done).toEqual([]);
});

test("a notification has all that its sender said", async () => {
  const inbox = open();
  await pass();
  service.send("1", undefined, {
    imageUrl: "/ann.png",
    actions: [{ $typeName: "doorbell.v1.Action", label: "Approve", url: "/approve", isPrimary: true }],
    expireTime: { $typeName: "google.protobuf.Timestamp", seconds: 86_400n, nanos: 0 },
  });
  service.send("2");
  await pass();
  const announced = vi.fn();
  inbox.onNotification(announced);
  service.replace("id 2", "2 again");
  await pass(100);
  const [second, first] = inbox.getSnapshot().notifications;
  expect(first).toMatchObject({
    imageUrl: "/ann.png",
    actions: [{ label: "Approve", url: "/approve", isPrimary: true }],
    expireTime: "1970-01-02T00:00:00.000000Z",
    sentAt: "1970-01-01T00:00:00.001000Z",
  });
  expect(first).not.toHaveProperty("collapsedCount");
  expect(second).toMatchObject({ title: "2 again", collapsedCount: 1 });
  expect(second).not.toHaveProperty("actions");
  expect(announced.mock.calls.map(([rows, how]) => [rows[0].title, how])).toEqual([["2 again", "live"]]);
  expect(titles(inbox)).toEqual(["2 again", "1"]);
  service.expire(["id 1"]);
  await pass(100);
  expect(titles(inbox)).toEqual(["2 again"]);
});

test("a list that has grown keeps so many rows, and brings the others back", async () => {
  const inbox = open({ keepRows: 5, pageSize: 4 });
  await pass();
  for (let number = 1; number <= 12; number += 1) service.send(String(number));
  await pass(100);
  expect(titles(inbox)).toEqual(["12", "11", "10", "9", "8"]);
  expect(inbox.getSnapshot()).toMatchObject({ hasMore: true, unreadCount: 12 });
  await inbox.loadMore();
  expect(titles(inbox).length).toBe(12);
  expect(inbox.getSnapshot()).toMatchObject({ hasMore: false, unreadCount: 12 });
  // What was loaded stays, beside so many.
  service.send("13");
  await pass(100);
  expect(titles(inbox).length).toBe(12);
});
