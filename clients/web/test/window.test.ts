import { expect, test } from "vitest";
import type { Notification } from "../src/index.js";
import { Heights, indexesOf, rangeOf, rowAt } from "../src/react/window.js";

/** Rows of these sequences. */
const rowsOf = (...sequences: number[]): Notification[] =>
  sequences.map((sequence) => {
    const id = String(sequence);
    return { id, title: id, type: "test", sequence, revision: sequence, createdAt: "2026-01-01T00:00:00Z" };
  });
const heights = (all: Record<string, number>) =>
  new Map(Object.entries(all).map(([id, height]) => [id, { height }]));

const FIVE = rowsOf(50, 40, 30, 20, 10);

test("a row is as high as it was measured, and the others as the first that were", () => {
  const known = new Heights();
  expect(known.topsOf([])).toEqual([0]);
  known.take(heights({ 50: 100, 40: 60 }));
  expect(known.topsOf(FIVE)).toEqual([0, 100, 160, 240, 320, 400]);
  expect(known.topsOf(FIVE)).toBe(known.topsOf(FIVE));
  known.take(heights({ 20: 0 }));
  expect(known.topsOf(FIVE)).toEqual([0, 100, 160, 240, 320, 400]);
  // Another mean would move what is below the others.
  known.take(heights({ 50: 100, 30: 300 }));
  expect(known.topsOf(FIVE)).toEqual([0, 100, 160, 460, 540, 620]);
  expect(known.topsOf(FIVE.slice(1))).toEqual([0, 60, 360, 440, 520]);
});

test("a height is of the row that is there, and beyond the ends of the nearest one", () => {
  const tops = [0, 100, 160, 240];
  expect([-50, 0, 99, 100, 239, 240, 9999].map((y) => rowAt(tops, y))).toEqual([0, 0, 0, 1, 2, 2, 2]);
});

test("a range is of the same rows when others come and go above it", () => {
  const tops = [0, 10, 20, 30, 40, 50];
  const range = rangeOf(FIVE, tops, 25, 35);
  const shown = (...sequences: number[]) => {
    const rows = rowsOf(...sequences);
    return indexesOf(rows, range).map((at) => rows[at]?.sequence);
  };
  expect(shown(50, 40, 30, 20, 10)).toEqual([30, 20]);
  expect(shown(70, 60, 50, 40, 30, 20, 10)).toEqual([30, 20]);
  expect(shown(40, 30, 20, 10)).toEqual([30, 20]);
  // Where its first one goes the next one takes that place.
  expect(shown(50, 40, 20, 10)).toEqual([20, 10]);
  expect(shown(50)).toEqual([50]);
  expect(shown()).toEqual([]);
});

test("a range at the top is of the newest, and one that is kept is there with its neighbours", () => {
  const tops = [0, 10, 20, 30, 40, 50];
  expect(indexesOf(FIVE, rangeOf(FIVE, tops, -20, 5))).toEqual([0]);
  expect(indexesOf(rowsOf(60, 50, 40), rangeOf(FIVE, tops, -20, 5))).toEqual([0]);
  expect(indexesOf(FIVE, rangeOf(FIVE, tops, -20, 5, 20))).toEqual([0, 2, 3, 4]);
  expect(indexesOf(FIVE, rangeOf(FIVE, tops, 41, 60, 50))).toEqual([0, 1, 4]);
});
