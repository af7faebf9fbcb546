// Where a notification leads.

import type { Notification } from "./notification.js";

/** Follows a link of a notification in place of the browser: a router does. It is of the
 * page's own origin, and given without that. */
export type Navigate = (url: string, notification: Notification) => void;

/** Any origin that no link has. */
const NOWHERE = "https://nowhere.invalid";

/** The link as it is, where it is absolute with `http` or `https`, or a path of the
 * page's own origin as a browser reads it: `/\evil.example` and `/⇥/evil.example` are
 * none. The service lets only such through; a page should not have to trust it. */
export function safeLink(url: string | undefined): string | undefined {
  if (url === undefined || !/^(https?:\/\/|\/)/i.test(url)) return undefined;
  try {
    const isPath = url.startsWith("/");
    return isPath && new URL(url, NOWHERE).origin !== NOWHERE ? undefined : url;
  } catch {
    return undefined;
  }
}

/** What of a link a router of the page follows; nothing where it leads to another origin. */
export function pathOf(url: string): string | undefined {
  const { origin, pathname, search, hash } = new URL(url, location.href);
  return origin === location.origin ? pathname + search + hash : undefined;
}
