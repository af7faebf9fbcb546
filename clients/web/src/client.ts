// What a page has of all this: an inbox is made from options, and used by functions.
// No type here is another package's.

import type { ClaimNames } from "./identity.js";
import { makeInbox } from "./inbox.js";
import type { Notification } from "./notification.js";
import type { Snapshot } from "./snapshot.js";

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
  /** How often is asked while no tab is visible, in milliseconds; a minute. */
  readonly pollInterval?: number | undefined;
  /** How long all tabs may be hidden before the stream is given up; 5 seconds. */
  readonly hiddenGrace?: number | undefined;
  /** Whether tabs of one user share a stream; true. */
  readonly shareTabs?: boolean | undefined;
  /** Whether the inbox is kept in this browser for the next page load; true. */
  readonly persist?: boolean | undefined;
  /** The claims of the token that say whose it is, where they are named otherwise. */
  readonly claims?: Partial<ClaimNames> | undefined;
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
  /** Shows them as read at once, and tells the service; where that is away, once it is
   * there again, and `pendingMarks` says so. Rejects, and shows them as they were, only
   * where the service refuses it, or it is not known whose inbox it is. */
  readonly markRead: (ids: readonly string[]) => Promise<void>;
  /** Marks all that is shown and all below it as read, and nothing that came since. Shown
   * at once, held and rejected as `markRead`; rejects too where there is no list yet. */
  readonly markAllRead: () => Promise<void>;
  /** The person looks at the list: what is in it is not unseen any more. Where the service
   * is away it is told once it is there again, unless the page is gone by then. */
  readonly markSeen: () => Promise<void>;
  /** Loads the page after the last. Rejects where that fails. */
  readonly loadMore: () => Promise<void>;
  /** Tries again now, in place of waiting, also after it failed. */
  readonly retry: () => void;
  /** Calls `announce` for what is new while it happens, and for nothing that was
   * only missed; answers what ends that. */
  readonly onNotification: (announce: (notification: Notification) => void) => () => void;
}

/** Makes an inbox; `start` begins. */
export function createInbox(options: InboxOptions): InboxClient {
  return makeInbox(options);
}
