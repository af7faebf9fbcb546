import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { relative, subscribeClock } from "../src/react/time.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("it is said in the largest unit that is full, and never as the future", () => {
  const now = new Date("2026-03-04T12:00:00Z");
  const ago = (seconds: number) => relative(new Date(now.getTime() - seconds * 1000), now, "en");
  expect([-60, 0, 59, 60, 3599, 3600, 86_400, 7 * 86_400].map(ago)).toEqual([
    "now",
    "now",
    "now",
    "1 minute ago",
    "59 minutes ago",
    "1 hour ago",
    "yesterday",
    "last week",
  ]);
});

test("one timer tells all who listen, and ends with the last of them", () => {
  const [one, other] = [vi.fn(), vi.fn()];
  const ends = [subscribeClock(one), subscribeClock(other)];
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(30_000);
  ends[0]?.();
  vi.advanceTimersByTime(30_000);
  expect([one, other].map((heard) => heard.mock.calls.length)).toEqual([1, 2]);
  ends[1]?.();
  expect(vi.getTimerCount()).toBe(0);
});
