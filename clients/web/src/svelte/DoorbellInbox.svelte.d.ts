import type { Component } from "svelte";
import type { InboxElementEvents, InboxElementProps } from "../element/index.js";
import type { Action, Arrival, Notification } from "../index.js";

/** What the component is given: what the element is, and what it calls. With
 * `event.preventDefault()` the rest is left to the page: no link is followed, and the list
 * stays open. */
export interface DoorbellInboxProps extends Readonly<InboxElementProps> {
  /** What is new while it happens. */
  readonly onnotification?:
    | ((notifications: readonly Notification[], how: Arrival, leads: boolean) => void)
    | undefined;
  /** One is chosen. */
  readonly onselect?:
    | ((notification: Notification, event: InboxElementEvents["doorbell-select"]) => void)
    | undefined;
  /** The same for one of its `actions`. */
  readonly onaction?:
    | ((action: Action, notification: Notification, event: InboxElementEvents["doorbell-action"]) => void)
    | undefined;
  /** The person has opened the list, or closed it. */
  readonly onopenchange?: ((open: boolean) => void) | undefined;
}

/** `<doorbell-inbox>` as a component. */
declare const DoorbellInbox: Component<DoorbellInboxProps, {}, "open">;
export default DoorbellInbox;
