// What changed between two states of an inbox: all that tabs tell each other. Rows that
// did not change stay the objects they were, so who shows them has nothing to do.

import type { State } from "./fold.js";
import type { Notification } from "./notification.js";
import { asHeld } from "./row.js";

/** From one state to the next. */
export interface Change {
  /** All but the rows. */
  readonly rest: Omit<State, "rows">;
  /** New rows, and those that were replaced. */
  readonly rows: readonly Notification[];
  /** The ids of those that left. */
  readonly gone: readonly string[];
}

/** What leads from one state to the next, of which unchanged rows are the same objects. */
export function changeOf(former: State, next: State): Change {
  const { rows, ...rest } = next;
  const before = new Set(former.rows);
  const ids = new Set(rows.map(({ id }) => id));
  const gone = former.rows.filter(({ id }) => !ids.has(id)).map(({ id }) => id);
  return { rest, rows: rows.filter((row) => !before.has(row)), gone };
}

/** The state after a change. */
export function after(state: State, { rest, rows, gone }: Change): State {
  const out = new Set([...gone, ...rows.map(({ id }) => id)]);
  if (out.size === 0) return { ...rest, rows: state.rows };
  const stays = state.rows.filter(({ id }) => !out.has(id));
  const all = [...rows, ...stays].sort((a, b) => b.sequence - a.sequence);
  return { ...rest, rows: all };
}

/** A state that came whole, with the rows that are held already as they are. */
export function merged(held: State, next: State): State {
  return { ...next, rows: asHeld(held.rows, next.rows) };
}
