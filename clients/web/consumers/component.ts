// Natural use of Svelte's component, for the compilers: Svelte has no CommonJS.

import type { InboxClient } from "@doorbell/web";
import DoorbellInbox, { type DoorbellInboxProps } from "@doorbell/web/svelte/DoorbellInbox.svelte";
import type { Component, ComponentProps } from "svelte";

export const props = (client: InboxClient): DoorbellInboxProps => ({
  client,
  open: true,
  onselect: ({ id }, event) => console.log(id, event.detail.notification.title),
});
export const same = (client: InboxClient): ComponentProps<typeof DoorbellInbox> => props(client);
export const component: Component<DoorbellInboxProps, object, "open"> = DoorbellInbox;
