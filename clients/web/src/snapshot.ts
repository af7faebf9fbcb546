// What is shown of an inbox.

import type { Status } from "./connection.js";
import type { Notification } from "./gen/doorbell/v1/notifications_pb.js";

/** The inbox at one moment. It is replaced, never changed. */
export interface Snapshot {
  /** Newest first; those that were archived are not in it. */
  readonly notifications: readonly Notification[];
  /** Exact, however many are listed. */
  readonly unreadCount: number;
  /** The change of the inbox that the count belongs to. */
  readonly revision: bigint;
  readonly status: Status;
  /** Why it failed, or what stands in the way; nothing when all is well. Where
   * another tab holds the stream it has the code and the message, and no details. */
  readonly error: unknown;
  /** Whether there is a list: empty or not, but no longer unknown. */
  readonly isLoaded: boolean;
  /** Whether `loadMore` would find older ones. */
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
}

/** An inbox of which nothing is known: before it began, and where pages are rendered
 * on a server. */
export const EMPTY: Snapshot = {
  notifications: [],
  unreadCount: 0,
  revision: 0n,
  status: "idle",
  error: undefined,
  isLoaded: false,
  hasMore: false,
  isLoadingMore: false,
};
