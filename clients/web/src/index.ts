// `@doorbell/web`: the inbox of a user, in a page.

export type { Status } from "./connection.js";
export type { Notification } from "./gen/doorbell/v1/notifications_pb.js";
export { createInbox, type Inbox, type InboxOptions } from "./inbox.js";
export type { Snapshot } from "./snapshot.js";
