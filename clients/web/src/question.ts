// Which notifications of an inbox a list has.

import type { About, Notification } from "./notification.js";

/** What a view shows of the inbox. */
export interface Question {
  /** `inbox`, where it is not said: what is neither archived nor removed; `unread`: of
   * those what is not read; or `archived`. */
  readonly show?: "inbox" | "unread" | "archived" | undefined;
  /** Only of these types, at most 20; of all where there are none. */
  readonly types?: readonly string[] | undefined;
  /** Only what is about this thing. */
  readonly about?: About | undefined;
}

/** Whether a notification, as it is now, is in the list of a question. */
export function answers({ show, types, about }: Question, row: Notification): boolean {
  if ((show === "archived") !== (row.archivedAt !== undefined)) return false;
  if (show === "unread" && !isUnread(row)) return false;
  return isOfType(types, row) && (about === undefined || isAbout(about, row));
}

/** Whether it counts as unread: what is archived does not. */
export function isUnread({ readAt, archivedAt }: Notification): boolean {
  return readAt === undefined && archivedAt === undefined;
}

/** Whether it is of one of these types; of any where there are none. */
export function isOfType(types: readonly string[] | undefined, { type }: Notification): boolean {
  return !types?.length || types.includes(type);
}

/** Whether it is about this thing. */
export function isAbout({ entityType, entityId }: About, row: Notification): boolean {
  return row.entityType === entityType && row.entityId === entityId;
}
