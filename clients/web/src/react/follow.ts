// A link is followed by the browser, or by the page.

import type { MouseEvent } from "react";
import { pathOf, type Navigate } from "../link.js";
import type { Notification } from "../notification.js";

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
  const path = pathOf(href);
  if (path === undefined) return;
  event.preventDefault();
  navigate(path, notification);
}
