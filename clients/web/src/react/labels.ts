// What the bell says, and who may say it otherwise.

import type { Notification } from "../notification.js";
import type { Problem } from "../snapshot.js";

/** Every text of the component. */
export interface Labels {
  readonly title: string;
  /** What the bell is called, for who does not see the badge. */
  readonly bell: (unseen: number) => string;
  /** What the badge shows. */
  readonly badge: (unseen: number) => string;
  /** Beside the title, where any is. */
  readonly unreadCount: (unread: number) => string;
  readonly empty: string;
  readonly loading: string;
  readonly loadMore: string;
  readonly markRead: string;
  readonly markAllRead: string;
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
  /** What toasts are called together, for who does not see where they are. */
  readonly toasts: string;
  /** The button of a toast that takes it away. */
  readonly dismiss: string;
  /** Said when a notification comes. */
  readonly announce: (notification: Notification) => string;
}

/** The texts in English. */
export const ENGLISH: Labels = {
  title: "Notifications",
  bell: (unseen) => (unseen === 0 ? "Notifications" : `Notifications, ${unseen} new`),
  badge: (unseen) => (unseen > 99 ? "99+" : String(unseen)),
  unreadCount: (unread) => `${unread} unread`,
  empty: "Nothing here yet.",
  loading: "Loading…",
  loadMore: "Show older ones",
  markRead: "Mark as read",
  markAllRead: "Mark all as read",
  unread: "Unread",
  offline: "You are offline.",
  reconnecting: "Reconnecting…",
  delayed: "New ones come with a delay.",
  failed: "Notifications cannot be shown.",
  problem: ({ message }) => message,
  pendingMarks: (count) =>
    count === 1 ? "1 mark waits to be sent." : `${count} marks wait to be sent.`,
  retry: "Try again",
  toasts: "New notifications",
  dismiss: "Dismiss",
  announce: (notification) => `New notification: ${notification.title}`,
};
