// What is held of marks, in a tab that learns of their ends late.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Notification } from "../src/index.js";
import { Marks, type Marked } from "../src/marks.js";
import type { Verb } from "../src/verbs.js";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: 0 });
  return () => vi.useRealTimers();
});

let marks: Marks;
let revision: number;

afterEach(() => marks.end());

beforeEach(() => {
  revision = 10;
  const clerk = {
    random: () => 0.5,
    send: async () => (revision += 1),
    keep: () => undefined,
    isActive: () => true,
    changed: () => undefined,
  };
  marks = new Marks(clerk, []);
  marks.settle({ epoch: "e", position: 1, reached: 1, rows: [], oldest: 0, nextPageToken: "", head });
});

const head = { revision: 0, unreadCount: 0, unseenCount: 0, seenThrough: 0 };
const about = { entityType: "invoice", entityId: "7" };
const row = { id: "a", sequence: 1, revision: 1, type: "t", title: "", ...about } as Notification;
const other = { ...row, id: "b", entityId: "8" };
const all = (through: number, ...types: string[]): Marked => ({ through: { revision: through, epoch: "e", types } });

/** Marks one after the other, each a second later. */
async function mark(...what: [Verb, Marked][]): Promise<void> {
  for (const [verb, marked] of what) {
    vi.setSystemTime(Date.now() + 1000);
    await marks.mark(verb, [marked], () => undefined);
  }
}

const readAt = (of: Notification) => Date.parse(marks.shown(of)?.readAt ?? "") / 1000;

test("a mark that was answered is held no longer than until another one repeats it", async () => {
  await mark(["markRead", { about }], ["markRead", { about: { ...about, entityId: "8" } }]);
  expect([readAt(row), readAt(other)]).toEqual([1, 2]);
  await mark(["markRead", { about }]);
  expect([readAt(row), readAt(other)]).toEqual([3, 2]);
  // All that was shown then is shown now.
  await mark(["markRead", all(5)], ["markRead", all(6)]);
  expect([readAt(row), readAt({ ...other, entityId: "9" })]).toEqual([3, 5]);
});

test("it is held where another one does less, or something else was done in between", async () => {
  const third = { ...row, entityId: "9" };
  await mark(["markRead", all(5)], ["markRead", all(6, "t")], ["markRead", all(4)]);
  expect([readAt(third), readAt({ ...third, type: "u" })]).toEqual([1, 1]);
  await mark(["archive", { about }], ["markRead", all(7)]);
  expect(readAt(third)).toBe(1);
});
