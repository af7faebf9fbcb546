// A link is followed by the browser, or by the page.

import type { MouseEvent } from "react";
import type { Notification } from "../notification.js";

/** Follows a link of a notification in place of the browser: a router does. It is of the
 * page's own origin, and given without that. */
export type Navigate = (url: string, notification: Notification) => void;

/** Whether a click asks for no other tab, window or download. */
export function isPlain(event: MouseEvent): boolean {
  return !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0);
}

/** Leaves a click on a link to the page, unless it asks for another tab or a download, or
 * leads to another origin. */
export function follow(
  event: MouseEvent,
  href: string,
  notification: Notification,
  navigate: Navigate | undefined,
): void {
  if (!navigate || !isPlain(event) || event.defaultPrevented) return;
  const { origin, pathname, search, hash } = new URL(href, location.href);
  if (origin !== location.origin) return;
  event.preventDefault();
  navigate(pathname + search + hash, notification);
}
