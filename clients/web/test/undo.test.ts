import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Undo } from "../src/react/undo.js";
import type { InboxClient } from "../src/index.js";

let calls: string[];
let undo: Undo;

beforeEach(() => {
  vi.useFakeTimers();
  calls = [];
  const note = (verb: string) => async (ids: unknown) => void calls.push(`${verb} ${String(ids)}`);
  const inbox = { archive: note("archive"), unarchive: note("unarchive"), remove: note("remove") };
  undo = new Undo(inbox as unknown as InboxClient);
});

afterEach(() => {
  vi.useRealTimers();
});

test("what is archived is so at once, and several are brought back together", () => {
  undo.putAway("archive", "a");
  undo.putAway("archive", "b");
  expect(calls).toEqual(["archive a", "archive b"]);
  expect(undo.undo()).toEqual(["a", "b"]);
  expect(calls).toEqual(["archive a", "archive b", "unarchive a,b"]);
  expect(undo.undoable()).toBeUndefined();
  expect(undo.undo()).toEqual([]);
  expect(calls.length).toBe(3);
});

test("what is removed is hidden, and removed when its time is over", () => {
  undo.putAway("remove", "a");
  vi.advanceTimersByTime(5000);
  undo.putAway("remove", "b");
  vi.advanceTimersByTime(5999);
  expect([...undo.hidden()]).toEqual(["a", "b"]);
  expect(calls).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(calls).toEqual(["remove a,b"]);
  expect(undo.hidden().size).toBe(0);
});

test("what is taken back before that is never removed", () => {
  undo.putAway("remove", "a");
  undo.undo();
  vi.advanceTimersByTime(60_000);
  expect(calls).toEqual([]);
  expect(undo.hidden().size).toBe(0);
});

test("another kind settles what was before, and so does the end", () => {
  undo.putAway("remove", "a");
  undo.putAway("archive", "b");
  expect(calls).toEqual(["remove a", "archive b"]);
  undo.putAway("remove", "c");
  undo.settle();
  undo.settle();
  expect(calls).toEqual(["remove a", "archive b", "remove c"]);
});

test("while it is held its time does not run out", () => {
  undo.putAway("remove", "a");
  undo.hold(true);
  vi.advanceTimersByTime(60_000);
  expect(calls).toEqual([]);
  undo.hold(false);
  vi.advanceTimersByTime(6000);
  expect(calls).toEqual(["remove a"]);
  // Who held it was with the one before.
  undo.putAway("remove", "b");
  vi.advanceTimersByTime(6000);
  expect(calls).toEqual(["remove a", "remove b"]);
});

test("who listens is told of each change, and of nothing else", () => {
  const heard = vi.fn();
  const end = undo.subscribe(heard);
  undo.settle();
  expect(heard).toHaveBeenCalledTimes(0);
  undo.putAway("archive", "a");
  undo.undo();
  expect(heard).toHaveBeenCalledTimes(2);
  end();
  undo.putAway("archive", "a");
  expect(heard).toHaveBeenCalledTimes(2);
});
