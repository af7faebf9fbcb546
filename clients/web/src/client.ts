// What a page has of all this: an inbox is made from options, and used by functions.
// No type here is another package's.

import type { ClaimNames } from "./identity.js";
import { makeInbox } from "./inbox.js";
import type { About, Notification } from "./notification.js";
import type { Fetch, InboxStorage } from "./outside.js";
import type { Preference, PreferenceChoice } from "./preferences.js";
import type { Question } from "./question.js";
import type { Snapshot, TypeCounts, ViewSnapshot } from "./snapshot.js";

/** What an inbox is made from. */
export interface InboxOptions {
  /** Where the service is: `https://doorbell.example.com`. */
  readonly baseUrl: string;
  /**
   * Answers with a token of the user, a JWT, within half a minute. It is asked again
   * before the last one ends, and when one was refused; `fresh` then says that the last
   * will not do. Where nobody is signed in it rejects, and is asked again later.
   */
  readonly getToken: (fresh: boolean) => string | Promise<string>;
  /**
   * Whose inbox it is: any text that is the same for the same person and inbox. With it
   * a reload shows the inbox before there is a token, and another user empties it at
   * once. See `start`.
   */
  readonly user?: string | undefined;
  /** How many notifications a page has; 20, at most 100. */
  readonly pageSize?: number | undefined;
  /** How many notifications a list keeps beyond the pages that the person loaded: in a tab
   * that lives for weeks the oldest of more leave it, and `loadMore` brings them back; 200. */
  readonly keepRows?: number | undefined;
  /** How often is asked while no tab is visible, in milliseconds; a minute. */
  readonly pollInterval?: number | undefined;
  /** How long all tabs may be hidden before the stream is given up; 5 seconds. */
  readonly hiddenGrace?: number | undefined;
  /** Whether tabs of one user share a stream; true. */
  readonly shareTabs?: boolean | undefined;
  /** Whether the inbox is kept in this browser for the next page load; true. Where there is
   * no place to keep it, it is not. */
  readonly persist?: boolean | undefined;
  /** The claims of the token that say whose it is, where they are named otherwise. */
  readonly claims?: Partial<ClaimNames> | undefined;
  /** Sends requests in place of the browser's `fetch`: for an app that has another one, of
   * which the answers come in pieces. */
  readonly fetch?: Fetch | undefined;
  /** Where the inbox is kept, in place of the browser's `localStorage`. */
  readonly storage?: InboxStorage | undefined;
}

/** An inbox that stays in step with the service while it is started. Its functions may
 * be taken off it and passed on. */
export interface InboxClient {
  /** Begins, or goes on. With a user who is not the one of before all that is shown is
   * gone when it returns, and a token is asked for anew. */
  readonly start: (who?: { readonly user?: string | undefined }) => void;
  /** Ends the stream, and leaves the other tabs to themselves. With `forget`, for who
   * signs out, nothing of this user stays in the browser. */
  readonly stop: (how?: { readonly forget?: boolean | undefined }) => void;
  /** Calls `listener` at once and after each change; of several changes within 50 ms
   * once. Answers what ends that. */
  readonly subscribe: (listener: (snapshot: Snapshot) => void) => () => void;
  /** The inbox now: the same object until something changes. */
  readonly getSnapshot: () => Snapshot;
  /** Marks them as read. This and the four below show it at once, in all lists, and tell
   * the service; where that is away, once it is there again, in the order in which they
   * were called, and `pendingMarks` says so. They reject, and what they did is taken back,
   * only where the service refuses it, or it is not known whose inbox it is. What is so
   * already, or not in the inbox, is left alone. */
  readonly markRead: (which: Selection) => Promise<void>;
  /** Marks them as unread again. */
  readonly markUnread: (which: Selection) => Promise<void>;
  /** Puts them away: they leave the inbox and its counts, and are read or not as before. */
  readonly archive: (which: Selection) => Promise<void>;
  /** Brings them back from the archive as they were. */
  readonly unarchive: (which: Selection) => Promise<void>;
  /** Removes them for good: by their ids archived ones too, else those in the inbox. */
  readonly remove: (which: Selection) => Promise<void>;
  /** `markRead({ all: true })`, or those of some types: all that is shown and all below it,
   * and nothing that came since. Rejects too where there is no list yet. */
  readonly markAllRead: (only?: { readonly types?: readonly string[] | undefined }) => Promise<void>;
  /** `archive({ all: true })`, or those of some types. */
  readonly archiveAll: (only?: { readonly types?: readonly string[] | undefined }) => Promise<void>;
  /** The person looks at the list: what is in it is not unseen any more. Where the service
   * is away it is told once it is there again, unless the page is gone by then. */
  readonly markSeen: () => Promise<void>;
  /** Loads the page after the last. Rejects where that fails. */
  readonly loadMore: () => Promise<void>;
  /** A list of its own, with pages of its own, that the inbox's stream keeps in step: what
   * is archived, or of some types, for example. It asks for its first page as soon as the
   * inbox is loaded; `close` it when nobody looks any more. */
  readonly view: (question: Question) => InboxView;
  /** How many are unread of each of these types, at most 20. */
  readonly countTypes: (types: readonly string[]) => TypeCounter;
  /** Which types of notifications the person has, by type: those of which they or their
   * organization said anything. All others they have. Asks the service each time, and
   * rejects where it does not answer. */
  readonly preferences: () => Promise<readonly Preference[]>;
  /** Turns types on or off for the person, or back to what their organization says, for
   * what is sent from then on; answers as `preferences`. What is in the inbox stays.
   * Nothing of it is held for later: it rejects where the service refuses it or is away. */
  readonly updatePreferences: (choices: readonly PreferenceChoice[]) => Promise<readonly Preference[]>;
  /** Tries again now, in place of waiting, also after it failed. */
  readonly retry: () => void;
  /** Calls `announce` for what is new while it happens, and for nothing that was only
   * missed: live for one after the other, and for what a poll has found, all hidden tabs
   * having given up the stream, for all of it at once. Answers what ends that. */
  readonly onNotification: (announce: Announce) => () => void;
}

/** Which notifications something is done to. `all` are those that are shown and those
 * below them, listed or not, and none that came or changed since. */
export type Selection =
  | readonly string[]
  | { readonly about: About }
  | { readonly all: true; readonly types?: readonly string[] | undefined };

/** Hears of notifications that are new, oldest first, and how they came. Every tab is told:
 * `leads` is said to the one of them that has it from the service, for what one of them
 * should do for all, as to play a sound. */
export type Announce = (
  notifications: readonly Notification[],
  how: Arrival,
  leads: boolean,
) => void;

/** How notifications came: over the stream, or found by a poll, which is up to a minute
 * after it happened. */
export type Arrival = "live" | "polled";

/** What changes and says so; its functions may be taken off it and passed on. */
interface Watched<T> {
  /** Calls `listener` at once and after each change; answers what ends that. */
  readonly subscribe: (listener: (snapshot: T) => void) => () => void;
  /** As it is now: the same object until something changes. */
  readonly getSnapshot: () => T;
  /** Nothing comes any more. */
  readonly close: () => void;
}

/** A list of the inbox that answers a question. */
export interface InboxView extends Watched<ViewSnapshot> {
  /** Loads the page after the last. Rejects where that fails. */
  readonly loadMore: () => Promise<void>;
}

/** Counts of types, which are asked for anew when something of these types has changed. */
export type TypeCounter = Watched<TypeCounts>;

/** Makes an inbox; `start` begins. */
export function createInbox(options: InboxOptions): InboxClient {
  return makeInbox(options);
}
