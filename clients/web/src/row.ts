// What happens to a row of an inbox.

import type { Notification } from "./notification.js";

/** All of a row that can change but its content. */
export interface RowState {
  readonly id: string;
  readonly sequence: number;
  readonly revision: number;
  readonly readAt?: string;
  readonly archivedAt?: string;
  /** It is gone for good: its person or its sender took it away, its time was over, or a
   * later one took its place. */
  readonly removedAt?: string;
}

/** A row as it is now: whole, or its state alone. */
export type RowChange = Notification | RowState;

export function isWhole(change: RowChange): change is Notification {
  return "createdAt" in change;
}

/** The row with its later state; nothing where that is that it is gone. */
export function withState(row: Notification, state: RowState): Notification | undefined {
  const { readAt: _, archivedAt: __, ...rest } = row;
  const { revision, readAt, archivedAt, removedAt } = state;
  if (removedAt !== undefined) return undefined;
  return { ...rest, revision, ...(readAt && { readAt }), ...(archivedAt && { archivedAt }) };
}

/** The later of two changes of a row, whole if one of them has the content. */
export function laterOf(former: RowChange, change: RowChange): RowChange {
  if (change.revision <= former.revision) return former;
  if (isWhole(change) || !isWhole(former)) return change;
  return withState(former, change) ?? change;
}

/** Rows that came anew, but those that are as they were are the objects that they were. */
export function asHeld(
  held: readonly Notification[],
  rows: readonly Notification[],
): readonly Notification[] {
  const former = new Map(held.map((row) => [row.id, row]));
  return rows.map((row) => {
    const was = former.get(row.id);
    return was?.revision === row.revision ? was : row;
  });
}

/** The former list, where the next one has nothing else. */
export function sameOr(
  former: readonly Notification[],
  next: readonly Notification[],
): readonly Notification[] {
  const isSame = former.length === next.length && next.every((row, at) => row === former[at]);
  return isSame ? former : next;
}
