// Rows as they are shown: as the service has them, with what was done to them here.

import type { Listed } from "./list.js";
import type { Marks } from "./marks.js";
import type { Notification } from "./notification.js";
import { isOfType } from "./question.js";
import { VERBS, type Verb } from "./verbs.js";

/** The rows that any list has, by their ids, as the service has them. */
export type Known = ReadonlyMap<string, Notification>;

/** The latest copy of each row that any of these lists has. */
export function knownOf(lists: readonly (readonly Notification[])[]): Known {
  const known = new Map<string, Notification>();
  for (const rows of lists) {
    for (const row of rows) {
      if (row.revision > (known.get(row.id)?.revision ?? -1)) known.set(row.id, row);
    }
  }
  return known;
}

/** What a list shows of its rows and of those that came into it here. */
export function overlaid(
  { rows, oldest }: Listed,
  isIn: (row: Notification) => boolean,
  marks: Marks,
  known: () => Known,
): readonly Notification[] {
  if (marks.isEmpty) return rows;
  const shown: Notification[] = [];
  for (const row of rows) {
    const next = marks.shown(row);
    if (next && isIn(next)) shown.push(next);
  }
  const held = new Set(rows.map(({ id }) => id));
  let isSorted = true;
  for (const row of known().values()) {
    if (held.has(row.id) || row.sequence < oldest) continue;
    const next = marks.shown(row);
    if (!next || next === row || !isIn(next)) continue;
    shown.push(next);
    isSorted = false;
  }
  return isSorted ? shown : shown.sort((a, b) => b.sequence - a.sequence);
}

/** The ids of rows that a verb would change and that are being marked already. */
export function beingMarked(
  verb: Verb,
  types: readonly string[] | undefined,
  marks: Marks,
  known: () => Known,
): readonly string[] {
  if (marks.isEmpty) return [];
  const isPartOf = (row: Notification) => {
    const next = marks.shown(row);
    const isMarked = next !== undefined && next !== row;
    return isMarked && VERBS[verb].changes(next, false) && isOfType(types, next);
  };
  return [...known().values()].filter(isPartOf).map(({ id }) => id);
}
