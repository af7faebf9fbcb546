// Which rows of a long list are rendered: those that are seen, some above and below, and
// the one that has the focus with its neighbours. In place of the others there is room.
//
// Promises: the rows that are rendered are bounded by the height of the panel, however long
// the list is; the room is as high as the rows were when they were last rendered, and a
// guess where they never were.

import type { Notification } from "../notification.js";

type Rows = readonly Notification[];

/** The list that no other one is. */
const NONE: Rows = [];

/** The height of a row before one was measured, in CSS pixels. */
const GUESS = 80;
/** So many rows are rendered at first, when no height is known yet. */
const FIRST = 10;

/** How high rows are, and so where each begins. */
export class Heights {
  readonly #known = new Map<string, number>();
  #guess = GUESS;
  #rows = NONE;
  #tops: readonly number[] = [0];

  /** Takes what was measured, by ids. The guess is the mean of the first ones, and stays:
   * with another one all below the room would move. */
  take(measured: ReadonlyMap<string, { readonly height: number }>): void {
    const isFirst = this.#known.size === 0;
    for (const [id, { height }] of measured) {
      // What is not laid out has none.
      if (height === 0 || this.#known.get(id) === height) continue;
      this.#known.set(id, height);
      this.#rows = NONE;
    }
    if (isFirst && this.#known.size > 0) {
      const sum = [...this.#known.values()].reduce((all, height) => all + height);
      this.#guess = sum / this.#known.size;
    }
  }

  /** Where each row begins, from the top of the list, and where the last one ends: the same
   * until something changes. */
  topsOf(rows: Rows): readonly number[] {
    if (rows === this.#rows) return this.#tops;
    let top = 0;
    const tops = rows.map(({ id }) => {
      const at = top;
      top += this.#known.get(id) ?? this.#guess;
      return at;
    });
    this.#rows = rows;
    this.#tops = [...tops, top];
    return this.#tops;
  }
}

/** The row at a height, or the nearest one. */
export function rowAt(tops: readonly number[], y: number): number {
  const at = tops.findLastIndex((top) => top <= y);
  return Math.max(0, Math.min(at, tops.length - 2));
}

/** The row of a sequence; where it is gone, the next older one. Rows come and go above it:
 * an index would be another row's then. */
export function indexOf(rows: Rows, sequence: number): number {
  const at = rows.findIndex((row) => row.sequence <= sequence);
  return at < 0 ? rows.length - 1 : at;
}

/** What is rendered of a list. */
export interface Range {
  /** The sequence of the first one; the newest where it is not said. */
  readonly first?: number | undefined;
  readonly count: number;
  /** The sequence of one that stays, wherever it is. */
  readonly kept?: number | undefined;
}

export const AT_TOP: Range = { count: FIRST };

/** The rows from one height to another. */
export function rangeOf(rows: Rows, tops: readonly number[], from: number, to: number, kept?: number): Range {
  const [start, end] = [rowAt(tops, from), rowAt(tops, to)];
  return { first: start === 0 ? undefined : rows[start]?.sequence, count: end - start + 1, kept };
}

/** The indexes of what is rendered, in order. */
export function indexesOf(rows: Rows, { first, count, kept }: Range): readonly number[] {
  const start = first === undefined ? 0 : indexOf(rows, first);
  const shown = new Set(Array.from({ length: count }, (_, at) => start + at));
  if (kept !== undefined) {
    const at = indexOf(rows, kept);
    // Who goes on by a key comes to one of these.
    for (const near of [at - 1, at, at + 1]) shown.add(near);
  }
  return [...shown].filter((at) => at >= 0 && at < rows.length).sort((a, b) => a - b);
}
