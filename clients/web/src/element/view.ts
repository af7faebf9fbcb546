// Shows the bell in a shadow root, by Preact: it is in what is built, and no page's own, so
// its hooks are nobody else's.

import { h, options, render, type ComponentType, type VNode } from "preact";
import { Inbox, type InboxProps } from "../react/Inbox.js";

const PREFIX = "doorbell-";

/** What a part is besides its name, by the attribute that says so: no selector of a page can
 * ask a part for an attribute. */
const STATES = {
  "data-unread": "unread",
  "data-primary": "primary",
  "aria-selected": "selected",
} as const;

/** `part`, for a page to style: the class names without their prefix. */
function partOf(props: Readonly<Record<string, unknown>>): string | undefined {
  const names = String(props["className"] ?? "").split(" ");
  const parts = names.flatMap((name) => (name.startsWith(PREFIX) ? [name.slice(PREFIX.length)] : []));
  for (const [attribute, state] of Object.entries(STATES)) {
    if (parts.length > 0 && props[attribute] === true) parts.push(state);
  }
  return parts.join(" ") || undefined;
}

const former = options.vnode;
options.vnode = (vnode: VNode) => {
  if (typeof vnode.type === "string") {
    const props = vnode.props as Record<string, unknown>;
    const part = partOf(props);
    if (part !== undefined) props["part"] = part;
  }
  former?.(vnode);
};

/** Shows it with these, or nothing. */
export function show(root: ShadowRoot, props: InboxProps | undefined): void {
  // It is React's by its types, and Preact's where it is built.
  render(props ? h(Inbox as unknown as ComponentType<InboxProps>, props) : null, root);
}
