// What is shown of an inbox.

import type { Notification } from "./notification.js";

/** How the connection is. */
export type Status =
  | "idle"
  /** On its way to the service, for the first time. */
  | "connecting"
  /** Every change comes at once. */
  | "live"
  /** It was cut, and comes back. */
  | "reconnecting"
  /** No tab is visible: what is new comes once a minute. */
  | "polling"
  /** Something on the way holds the stream back: what is new comes a few times a
   * minute, until the stream gets through again. */
  | "delayed"
  /** The browser has no network. */
  | "offline"
  /** The service does not allow it: only another token, or `retry`, may help. */
  | "failed";

/** What stands in the way. */
export interface Problem {
  readonly kind: ProblemKind;
  /** What happened and what to do about it, for who made the page; in English. */
  readonly message: string;
}

/** What stands in the way, as far as a page can tell. */
export type ProblemKind =
  /** `getToken` failed, took too long, or gave what is no token of this user. */
  | "token"
  /** The service refuses the token. */
  | "refused"
  /** The service is there, and does not allow the page's origin. */
  | "cors"
  /** The page's own Content-Security-Policy forbids the connection. */
  | "csp"
  /** Nothing answers: the service is down, or the way to it. */
  | "unreachable"
  /** Calls are answered and streams are held back on the way. */
  | "held"
  /** The service, or what stands before it, answers with an error. */
  | "service";

/** The inbox at one moment: plain data. It is replaced, never changed. */
export interface Snapshot {
  /** Whose it is, where the page has said so; never another's. */
  readonly user: string | undefined;
  /** Newest first; those that were archived are not in it. A row that did not change
   * is the same object as before. */
  readonly notifications: readonly Notification[];
  /** Exact, however many are listed. */
  readonly unreadCount: number;
  /** How many of them were created after the person last looked, see `markSeen`: the
   * number on a bell. */
  readonly unseenCount: number;
  /** The `sequence` up to which the person has looked. */
  readonly seenThrough: number;
  /** The change of the inbox that the counts belong to. */
  readonly revision: number;
  readonly status: Status;
  /** Nothing when all is well. */
  readonly error: Problem | undefined;
  /** Whether there is a list: empty or not, but no longer unknown. */
  readonly isLoaded: boolean;
  /** Whether `loadMore` would find older ones. */
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
  /** How much of what was read, archived or removed here the service has yet to take: it
   * is shown already, and sent once the service is there again. */
  readonly pendingMarks: number;
}

/** A view at one moment: plain data. It is replaced, never changed. */
export interface ViewSnapshot {
  /** Newest first. A row that did not change is the same object as before. */
  readonly notifications: readonly Notification[];
  /** Whether there is a list: empty or not, but no longer unknown. */
  readonly isLoaded: boolean;
  /** Whether `loadMore` would find older ones. */
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
  /** Why there is no list yet, or why it may be behind; nothing when all is well. */
  readonly error: Problem | undefined;
}

/** How many are unread of each type that was asked for; empty until that is known. */
export interface TypeCounts {
  readonly [type: string]: {
    /** At most 1,000. */
    readonly unreadCount: number;
    /** Whether there are more than that. */
    readonly hasMore: boolean;
  };
}

/** An inbox of which nothing is known: before it began, and where pages are rendered
 * on a server. */
export const EMPTY: Snapshot = {
  user: undefined,
  notifications: [],
  unreadCount: 0,
  unseenCount: 0,
  seenThrough: 0,
  revision: 0,
  status: "idle",
  error: undefined,
  isLoaded: false,
  hasMore: false,
  isLoadingMore: false,
  pendingMarks: 0,
};

/** A view of which nothing is known. */
export const EMPTY_VIEW: ViewSnapshot = {
  notifications: [],
  isLoaded: false,
  hasMore: false,
  isLoadingMore: false,
  error: undefined,
};
