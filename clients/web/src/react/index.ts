// `@doorbell/web/react`: a bell and its list.

export { Inbox, type InboxProps } from "./Inbox.js";
export type { ItemChoices } from "./Item.js";
export { ENGLISH, type Labels } from "./labels.js";
export { useInbox } from "./useInbox.js";
