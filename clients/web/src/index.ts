// `@doorbell/web`: the inbox of a user, in a page.

export { createInbox, type InboxClient, type InboxOptions } from "./client.js";
export type { ClaimNames } from "./identity.js";
export type { Notification } from "./notification.js";
export type { Problem, ProblemKind, Snapshot, Status } from "./snapshot.js";
