// Natural use of what the package gives to other frameworks than React, for the compilers:
// nothing of React's is in it.

import { createInbox, type Fetch, type InboxStorage } from "@doorbell/web";
import {
  InboxElement,
  type ElementSlots,
  type InboxElementEvents,
  type InboxElementProps,
  type Labels,
  type Placement,
  type Tabs,
} from "@doorbell/web/element";
import { useInbox as useStore, type InboxStore } from "@doorbell/web/svelte";
import { DoorbellInbox as VueInbox, useInbox } from "@doorbell/web/vue";
import { computed, h, ref, type Ref, type VNode } from "vue";

const fetch: Fetch = async (url, init) => globalThis.fetch(url, init);
const storage: InboxStorage = {
  keys: () => [],
  getItem: () => undefined,
  setItem: () => undefined,
  removeItem: () => undefined,
};
const inbox = createInbox({ baseUrl: "https://doorbell.example.com", getToken: () => "", fetch, storage });

const element = document.createElement("doorbell-inbox");
element.client = inbox;
element.placement = "above-end";
element.getToken = async (fresh) => String(fresh);
element.tabs = ["all", { id: "own", label: "Own", types: ["comment"] }];
const labels: Partial<Labels> = { title: "Neues", bell: (unseen) => `${unseen} neu` };
const slots: ElementSlots = { image: ({ title }) => document.createTextNode(title), empty: (tab) => tab };
Object.assign(element, { labels, slots });
element.addEventListener("doorbell-select", (event) => {
  event.preventDefault();
  console.log(event.detail.notification.title);
});
element.addEventListener("doorbell-notification", ({ detail: { notifications, leads } }) => {
  if (leads) console.log(notifications.length);
});
element.addEventListener("click", ({ clientX }) => console.log(clientX));
const choose = ({ detail }: InboxElementEvents["doorbell-select"]): void => console.log(detail.notification.id);
element.addEventListener("doorbell-select", choose);
element.removeEventListener("doorbell-select", choose);
export const isOurs = (other: Element): other is InboxElement => other instanceof InboxElement;
export const told = ({ detail }: InboxElementEvents["doorbell-action"]): string => detail.action.label;
export const given: InboxElementProps = { url: "https://doorbell.example.com", tabs: true as Tabs, closeOnSelect: false };
export const placed: Placement | undefined = element.placement;

const user = ref<string | undefined>("alice");
const snapshot = useInbox(inbox, user);
export const unread: Ref<number> = computed(() => snapshot.value.unreadCount);
export const bell = (): VNode =>
  h(VueInbox, {
    client: inbox,
    preferences: { comment: "Comments" },
    onSelect: ({ id }, event) => {
      event.preventDefault();
      console.log(id);
    },
    onNotification: ([first], how) => console.log(first?.title, how),
    "onUpdate:open": (open: boolean) => console.log(open),
  });

const store: InboxStore = useStore(inbox, "alice");
export const end: () => void = store.subscribe(({ status }) => console.log(status));
