"use client";
// `@doorbell/web/react`: a bell and its list. The line above is for frameworks that
// render on a server: what is here runs in browsers.

export type { Choices } from "./deeds.js";
export type { Navigate } from "../link.js";
export { Inbox, type InboxProps } from "./Inbox.js";
export { ENGLISH, type Labels } from "./labels.js";
export type { PanelChoices } from "./Panel.js";
export type { Placement } from "./place.js";
export type { BellSlot, ErrorSlot, HeaderSlot, Slots } from "./slots.js";
export type { Tab, TabName, Tabs } from "./tabs.js";
export type { ToastChoices } from "./Toast.js";
export type { TypeNames } from "./switches.js";
export { Toasts, type ToastsProps } from "./Toasts.js";
export type { PutAway } from "./undo.js";
export { useInbox } from "./useInbox.js";
