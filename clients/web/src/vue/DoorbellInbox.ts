import { defineComponent, h, shallowRef, watchPostEffect } from "vue";
import type { Arrival } from "../client.js";
import type { InboxElement, InboxElementEvents, InboxElementProps } from "../element/index.js";
import "../element/index.js";
import type { Action, Notification } from "../notification.js";

/** What the component is given: what the element is. `open` is for `v-model:open`. */
export interface DoorbellInboxProps extends Readonly<InboxElementProps> {}

/** What it tells. `event.preventDefault()` leaves the rest to the page: no link is followed,
 * and the list stays open. */
export type DoorbellInboxEvents = {
  /** What is new while it happens. */
  notification: (notifications: readonly Notification[], how: Arrival, leads: boolean) => void;
  /** One is chosen. */
  select: (notification: Notification, event: InboxElementEvents["doorbell-select"]) => void;
  /** The same for one of its `actions`. */
  action: (action: Action, notification: Notification, event: InboxElementEvents["doorbell-action"]) => void;
  /** The person has opened the list, or closed it. */
  "update:open": (open: boolean) => void;
};

/** A property that nobody gave stays as the element has it. */
const given = <T extends readonly unknown[]>(...type: T) => ({ type, default: undefined });

const PROPS = {
  url: given(String),
  getToken: given(Function),
  client: given(Object),
  user: given(String),
  tabs: given(Boolean, Array),
  preferences: given(Boolean, Object),
  placement: given(String),
  theme: given(String),
  locale: given(String),
  labels: given(Object),
  slots: given(Object),
  navigate: given(Function),
  closeOnSelect: given(Boolean),
  undoDuration: given(Number),
  open: given(Boolean),
};

/** `<doorbell-inbox>` as a component. */
export const DoorbellInbox = defineComponent(
  (props: DoorbellInboxProps, { emit }) => {
    const element = shallowRef<InboxElement>();
    let former: DoorbellInboxProps = {};
    watchPostEffect(() => {
      const next = { ...props };
      // As properties: what Vue would make attributes of is not all text. Only what is another
      // one: the list may be open, though the page does not say so.
      const changed = Object.entries(next).filter(([name, value]) => value !== former[name as keyof DoorbellInboxProps]);
      if (!element.value) return;
      Object.assign(element.value, Object.fromEntries(changed));
      former = next;
    });
    const listeners: { readonly [E in keyof InboxElementEvents]: (event: InboxElementEvents[E]) => void } = {
      "doorbell-notification": ({ detail: { notifications, how, leads } }) =>
        emit("notification", notifications, how, leads),
      "doorbell-open": () => emit("update:open", true),
      "doorbell-close": () => emit("update:open", false),
      "doorbell-select": (event) => emit("select", event.detail.notification, event),
      "doorbell-action": (event) => emit("action", event.detail.action, event.detail.notification, event),
    };
    const handlers = Object.fromEntries(
      Object.entries(listeners).map(([name, hear]) => [`on:${name}`, hear]),
    );
    return () => h("doorbell-inbox", { ref: element, ...handlers });
  },
  {
    name: "DoorbellInbox",
    props: PROPS as never,
    emits: ["notification", "select", "action", "update:open"] as unknown as DoorbellInboxEvents,
  },
);
