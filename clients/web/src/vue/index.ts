// `@doorbell/web/vue`: a bell for Vue 3, and the inbox as a ref.

export { DoorbellInbox, type DoorbellInboxEvents, type DoorbellInboxProps } from "./DoorbellInbox.js";
export { useInbox } from "./useInbox.js";
