// What a person does to notifications, as the service does it: reading is for what is in
// the inbox, archiving does not read, and what comes back is as it was.

import type { Notification } from "./notification.js";

/** The name of the call that does it, too. */
export type Verb = "markRead" | "markUnread" | "archive" | "unarchive" | "remove";

/** What a verb does to a row. */
interface Meaning {
  /** Whether it does anything to a row that is as this one is. `isNamed`: by its id. */
  readonly changes: (row: Notification, isNamed: boolean) => boolean;
  /** The row after it; nothing where it is gone. */
  readonly done: (row: Notification, now: string) => Notification | undefined;
}

const isInInbox = (row: Notification) => row.archivedAt === undefined;

export const VERBS: { readonly [verb in Verb]: Meaning } = {
  markRead: {
    changes: (row) => isInInbox(row) && row.readAt === undefined,
    done: (row, readAt) => ({ ...row, readAt }),
  },
  markUnread: {
    changes: (row) => isInInbox(row) && row.readAt !== undefined,
    done: ({ readAt: _, ...row }) => row,
  },
  archive: {
    changes: isInInbox,
    done: (row, archivedAt) => ({ ...row, archivedAt }),
  },
  unarchive: {
    changes: (row) => !isInInbox(row),
    done: ({ archivedAt: _, ...row }) => row,
  },
  remove: {
    changes: (row, isNamed) => isNamed || isInInbox(row),
    done: () => undefined,
  },
};
