// What the bell says, and who may say it otherwise.

import type { Notification } from "../notification.js";
import type { Problem } from "../snapshot.js";
import { badge } from "../title.js";
import type { PutAway } from "./undo.js";

/** Every text of the component. */
export interface Labels {
  readonly title: string;
  /** What the bell is called, for who does not see the badge. */
  readonly bell: (unseen: number) => string;
  /** What the badge shows, and a tab that has a number. */
  readonly badge: (count: number) => string;
  /** Beside the title, where any is. */
  readonly unreadCount: (unread: number) => string;
  /** On the way back to the top, where so many came since one left it. */
  readonly news: (count: number) => string;
  readonly tabAll: string;
  readonly tabUnread: string;
  readonly tabArchived: string;
  readonly empty: string;
  /** In a tab of what is unread. */
  readonly emptyUnread: string;
  readonly emptyArchived: string;
  readonly loading: string;
  readonly loadMore: string;
  readonly markRead: string;
  readonly markUnread: string;
  readonly archive: string;
  readonly unarchive: string;
  readonly remove: string;
  readonly markAllRead: string;
  readonly archiveAll: string;
  /** The same button, pressed once: it cannot be undone at once. */
  readonly confirmArchiveAll: string;
  /** What so many were, a moment ago. */
  readonly putAway: (verb: PutAway, count: number) => string;
  readonly undo: string;
  /** Shows all of a long text, and hides it again. */
  readonly more: string;
  readonly less: string;
  readonly unread: string;
  readonly offline: string;
  readonly reconnecting: string;
  /** Streams are held back on the way: what is new comes late. */
  readonly delayed: string;
  readonly failed: string;
  /** What stands in the way, below one of those; nothing where it is empty. */
  readonly problem: (problem: Problem) => string;
  /** Marks that wait for the service to be there again. */
  readonly pendingMarks: (count: number) => string;
  readonly retry: string;
  /** Where the person says what they want, and the button that leads there. */
  readonly preferences: string;
  /** The button that leads to the list again. */
  readonly back: string;
  readonly noPreferences: string;
  /** Why a type cannot be turned off. */
  readonly required: string;
  readonly preferencesFailed: string;
  /** A switch is as it was, since the service did not take what was pressed. */
  readonly notSaved: (name: string) => string;
  /** What toasts are called together, for who does not see where they are. */
  readonly toasts: string;
  /** The button of a toast that takes it away. */
  readonly dismiss: string;
  /** Said when a notification comes. */
  readonly announce: (notification: Notification) => string;
}

const PUT_AWAY = { archive: "archived", unarchive: "moved to the inbox", remove: "removed" };

/** The texts in English. */
export const ENGLISH: Labels = {
  title: "Notifications",
  // With the number that the badge shows: who speaks to the page names what is seen.
  bell: (unseen) => (unseen === 0 ? "Notifications" : `Notifications, ${badge(unseen)} new`),
  badge,
  unreadCount: (unread) => `${unread} unread`,
  news: (count) => `${count} new`,
  tabAll: "All",
  tabUnread: "Unread",
  tabArchived: "Archived",
  empty: "Nothing here yet.",
  emptyUnread: "All is read.",
  emptyArchived: "Nothing is archived.",
  loading: "Loading…",
  loadMore: "Show older ones",
  markRead: "Mark as read",
  markUnread: "Mark as unread",
  archive: "Archive",
  unarchive: "Move to the inbox",
  remove: "Remove",
  markAllRead: "Mark all as read",
  archiveAll: "Archive all",
  confirmArchiveAll: "Really archive all?",
  putAway: (verb, count) => `${count} ${PUT_AWAY[verb]}.`,
  undo: "Undo",
  more: "Show more",
  less: "Show less",
  unread: "Unread",
  offline: "You are offline.",
  reconnecting: "Reconnecting…",
  delayed: "New ones come with a delay.",
  failed: "Notifications cannot be shown.",
  problem: ({ message }) => message,
  pendingMarks: (count) =>
    count === 1 ? "1 mark waits to be sent." : `${count} marks wait to be sent.`,
  retry: "Try again",
  preferences: "Preferences",
  back: "Back to the list",
  noPreferences: "There is nothing to choose.",
  required: "Everybody gets these.",
  preferencesFailed: "Preferences cannot be shown.",
  notSaved: (name) => `${name}: this could not be saved.`,
  toasts: "New notifications",
  dismiss: "Dismiss",
  announce: (notification) => `New notification: ${notification.title}`,
};
