// `@doorbell/web/react`: a bell and its list.

export { ENGLISH, Inbox, type InboxProps, type Labels } from "./Inbox.js";
export { useInbox } from "./useInbox.js";
