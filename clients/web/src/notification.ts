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
  /** An address as `actionUrl`. */
  readonly imageUrl?: string;
  /** What can be done about it: at most 3. */
  readonly actions?: readonly Action[];
  /** What the sender added. */
  readonly data?: { readonly [name: string]: unknown };
  /** When it came into the inbox. Times are text as ISO 8601 has it, in UTC, to the
   * microsecond: unlike a `Date` it cannot be changed and survives JSON.
   * `new Date(createdAt)` makes one of it. */
  readonly createdAt: string;
  /** When the service took it from its sender. */
  readonly sentAt?: string;
  /** When it is removed by itself. */
  readonly expireTime?: string;
  /** How many earlier ones it took the place of; absent where it took none. */
  readonly collapsedCount?: number;
  /** Absent while it is unread. */
  readonly readAt?: string;
  /** Absent while it is in the inbox. */
  readonly archivedAt?: string;
}

/** A button of a notification. */
export interface Action {
  readonly label: string;
  /** An address as `actionUrl`. */
  readonly url: string;
  /** Whether it is the one to take most likely. */
  readonly isPrimary: boolean;
}

/** The thing that notifications are about, as their sender names it. */
export interface About {
  readonly entityType: string;
  readonly entityId: string;
}
