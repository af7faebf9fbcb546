// A link is followed by the browser, or by the page.

import type { MouseEvent } from "react";
import type { Notification } from "../notification.js";

/** Follows a link of a notification in place of the browser: a router does. */
export type Navigate = (url: string, notification: Notification) => void;

/** Leaves a click on a link to the page, unless it asks for another tab or a download. */
export function follow(
  event: MouseEvent,
  href: string,
  notification: Notification,
  navigate: Navigate | undefined,
): void {
  const isPlain = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
  if (!navigate || !isPlain || event.button !== 0 || event.defaultPrevented) return;
  event.preventDefault();
  navigate(href, notification);
}
