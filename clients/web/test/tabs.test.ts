import { expect, test } from "vitest";
import { ENGLISH } from "../src/react/labels.js";
import { countOf, isInbox, tabsOf, type Tab } from "../src/react/tabs.js";
import { EMPTY } from "../src/snapshot.js";

const comments: Tab = { id: "comments", label: "Comments", types: ["comment", "reply"] };

test("there is always one tab, and the page says which and in which order", () => {
  const ids = (...given: Parameters<typeof tabsOf>) => tabsOf(...given).map(({ id }) => id);
  expect(ids(false, ENGLISH)).toEqual(["all"]);
  expect(ids([], ENGLISH)).toEqual(["all"]);
  expect(ids(true, ENGLISH)).toEqual(["all", "unread", "archived"]);
  expect(ids([comments, "archived"], ENGLISH)).toEqual(["comments", "archived"]);
  expect(tabsOf(true, { ...ENGLISH, tabUnread: "Neu" })[1]?.label).toBe("Neu");
});

test("a tab without a question is the inbox itself", () => {
  expect(isInbox({})).toBe(true);
  expect(isInbox({ show: "inbox", types: [] })).toBe(true);
  expect(isInbox({ show: "unread" })).toBe(false);
  expect(isInbox({ types: ["comment"] })).toBe(false);
  expect(isInbox({ about: { entityType: "plan", entityId: "7" } })).toBe(false);
});

test("a tab has a number only where that is exact", () => {
  const snapshot = { ...EMPTY, unreadCount: 7 };
  const [all, unread, archived] = tabsOf(true, ENGLISH);
  const numbers = [all, unread, archived].map((tab) => tab && countOf(tab, snapshot, {}));
  expect(numbers).toEqual([undefined, 7, undefined]);
  const comment = { unreadCount: 2, hasMore: false };
  expect(countOf(comments, snapshot, { comment })).toBeUndefined();
  expect(countOf(comments, snapshot, { comment, reply: { unreadCount: 3, hasMore: false } })).toBe(5);
  expect(countOf(comments, snapshot, { comment, reply: { unreadCount: 1000, hasMore: true } })).toBeUndefined();
});
