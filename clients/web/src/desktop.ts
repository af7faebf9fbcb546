// Notifications of the desktop, for what rings while nobody looks at the page.

import type { InboxClient } from "./client.js";
import { pathOf, safeLink, type Navigate } from "./link.js";
import type { Notification as Row } from "./notification.js";

/** What desktop notifications may be given. */
export interface DesktopOptions {
  /** The address of a picture for each of them: the page's own sign. */
  readonly icon?: string | undefined;
  /** Follows links of the page's own origin in place of the browser. */
  readonly navigate?: Navigate | undefined;
  /** What is said of more than three at once; "5 new notifications". */
  readonly summary?: ((count: number) => string) | undefined;
}

/** What the person says of them; `unsupported` where the browser has none. */
export type DesktopPermission = "default" | "denied" | "granted" | "unsupported";

/** Notifications of the desktop. Its functions may be taken off it and passed on. */
export interface Desktop {
  /** Whether the person allows them. */
  readonly permission: () => DesktopPermission;
  /** Asks the person, and answers with what they say. Call it where they click: out of
   * the blue nobody is asked. */
  readonly ask: () => Promise<DesktopPermission>;
  /** Shows no more of them. */
  readonly close: () => void;
}

/** More at once are one that counts them. */
const MOST_AT_ONCE = 3;
const SEVERAL = "several";

/** Shows what rings on the desktop, where the person allows it and the tab that has it
 * from the service has not the focus. Each shows once, whatever the number of tabs, and
 * goes once it is read. A click shows the page, reads it and follows its link. */
export function desktopNotifications(
  inbox: Pick<InboxClient, "onNotification" | "subscribe" | "markRead">,
  { icon, navigate, summary = (count) => `${count} new notifications` }: DesktopOptions = {},
): Desktop {
  const { Notification, document } = globalThis as Partial<typeof globalThis>;
  const shown = new Map<string, Notification>();

  const show = (title: string, tag: string, row?: Row) => {
    const body = row?.body;
    const options = { tag: `doorbell:${tag}`, dir: "auto" as const, ...(body && { body }), ...(icon && { icon }) };
    try {
      if (!Notification) return;
      const note = new Notification(title, options);
      shown.set(tag, note);
      note.onclose = () => {
        if (shown.get(tag) === note) shown.delete(tag);
      };
      note.onclick = () => {
        note.close();
        window.focus();
        if (row) open(row);
      };
    } catch {
      // Some browsers of phones have them for service workers only.
    }
  };
  const open = (row: Row) => {
    // What is refused is shown as unread again: that says enough.
    void inbox.markRead([row.id]).catch(() => undefined);
    const href = safeLink(row.actionUrl);
    if (href === undefined) return;
    const path = pathOf(href);
    if (navigate && path !== undefined) navigate(path, row);
    else location.assign(href);
  };

  const forget = [
    inbox.onNotification((rows, _, leads) => {
      if (!leads || Notification?.permission !== "granted") return;
      if (document?.visibilityState !== "hidden" && document?.hasFocus()) return;
      if (rows.length > MOST_AT_ONCE) show(summary(rows.length), SEVERAL);
      else for (const row of rows) show(row.title, row.id, row);
    }),
    inbox.subscribe(({ notifications, unseenCount }) => {
      if (shown.size === 0) return;
      const isUnread = (id: string) => notifications.some((row) => row.id === id && !row.readAt);
      for (const [tag, note] of shown) {
        if (tag === SEVERAL ? unseenCount === 0 : !isUnread(tag)) note.close();
      }
    }),
  ];
  const permission = () => Notification?.permission ?? "unsupported";
  return {
    permission,
    ask: async () => {
      const isClick = navigator.userActivation?.isActive ?? true;
      return Notification && isClick ? await Notification.requestPermission() : permission();
    },
    close: () => {
      for (const end of forget) end();
      for (const note of shown.values()) note.close();
    },
  };
}
