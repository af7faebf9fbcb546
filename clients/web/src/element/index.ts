// `@doorbell/web/element`: `<doorbell-inbox>`, the bell for pages without React. What is
// built from this has Preact in it, in place of React. It is registered where it is imported
// in a browser; elsewhere the import does nothing.

import { InboxElement } from "./InboxElement.js";

export type { Navigate } from "../link.js";
export type { Labels } from "../react/labels.js";
export type { Placement } from "../react/place.js";
export type { TypeNames } from "../react/switches.js";
export type { Tab, TabName, Tabs } from "../react/tabs.js";
export type { PutAway } from "../react/undo.js";
export { InboxElement, type InboxElementEvents, type InboxElementProps } from "./InboxElement.js";
export type { ElementSlots, SlotAnswer } from "./slots.js";

const NAME = "doorbell-inbox";

declare global {
  interface HTMLElementTagNameMap {
    "doorbell-inbox": InboxElement;
  }
}

const { customElements } = globalThis as Partial<typeof globalThis>;
if (customElements && !customElements.get(NAME)) customElements.define(NAME, InboxElement);
