// A notification as plain data: it goes through JSON, a worker, a tab, a store of any
// framework, and is the same.

/** A notification of an inbox. It is replaced, never changed. */
export interface Notification {
  readonly id: string;
  /** The order of the inbox: a later one has a higher number. It never changes. */
  readonly sequence: number;
  /** The change of the inbox that this copy is as of. */
  readonly revision: number;
  readonly type: string;
  readonly title: string;
  readonly body?: string;
  readonly entityType?: string;
  readonly entityId?: string;
  /** An absolute `http` or `https` address, or a path. */
  readonly actionUrl?: string;
  /** What the sender added. */
  readonly data?: { readonly [name: string]: unknown };
  /** Times are text as ISO 8601 has it, in UTC, to the microsecond: unlike a `Date`
   * it cannot be changed and survives JSON. `new Date(createdAt)` makes one of it. */
  readonly createdAt: string;
  /** Absent while it is unread. */
  readonly readAt?: string;
  readonly archivedAt?: string;
}
