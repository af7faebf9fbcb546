"use client";
// `@doorbell/web/react`: a bell and its list. The line above is for frameworks that
// render on a server: what is here runs in browsers.

export { Inbox, type InboxProps } from "./Inbox.js";
export type { ItemChoices } from "./Item.js";
export { ENGLISH, type Labels } from "./labels.js";
export type { Navigate } from "./follow.js";
export type { ToastChoices } from "./Toast.js";
export { Toasts, type ToastsProps } from "./Toasts.js";
export { useInbox } from "./useInbox.js";
