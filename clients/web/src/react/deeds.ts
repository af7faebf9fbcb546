// What a person does to the notifications of a bell. The functions stay the same, however
// often the page renders: rows are given them.

import { useMemo, type MouseEvent } from "react";
import type { InboxClient } from "../client.js";
import type { Navigate } from "../link.js";
import type { Action, Notification } from "../notification.js";
import { isUnread } from "../question.js";
import { follow, isPlain } from "./follow.js";
import type { PutAway, Undo } from "./undo.js";
import { useLatest } from "./useLatest.js";

/** What a page hears of a choice, and does about it. */
export interface Choices {
  /** Called when a notification is chosen, before its link is followed. With
   * `event.preventDefault()` the link is not followed and the list stays open. */
  readonly onSelect?: ((notification: Notification, event: MouseEvent) => void) | undefined;
  /** The same for a button of a notification. */
  readonly onAction?:
    | ((action: Action, notification: Notification, event: MouseEvent) => void)
    | undefined;
  /** Follows links of the page's own origin in place of the browser, as a router does. */
  readonly navigate?: Navigate | undefined;
  /** Whether a choice closes the list; where it is not said, one whose link is followed
   * in this tab does. */
  readonly closeOnSelect?: boolean | undefined;
}

export interface Deeds {
  readonly choose: (notification: Notification, event: MouseEvent, href: string | undefined) => void;
  readonly act: (action: Action, notification: Notification, event: MouseEvent, href: string) => void;
  readonly toggleRead: (notification: Notification) => void;
  readonly putAway: (verb: PutAway, notification: Notification) => void;
}

interface Actor extends Choices {
  readonly inbox: InboxClient;
  /** Nothing where nothing is put away. */
  readonly undo?: Undo;
  readonly close: () => void;
}

export function useDeedsOf(actor: Actor): Deeds {
  const latest = useLatest(actor);
  return useMemo(() => makeDeeds(() => latest.current), [latest]);
}

// What is refused is shown as it was again: that says enough.
const ignore = () => undefined;

function makeDeeds(actor: () => Actor): Deeds {
  const read = (notification: Notification) => {
    if (isUnread(notification)) void actor().inbox.markRead([notification.id]).catch(ignore);
  };
  const goOn = (notification: Notification, event: MouseEvent, href: string | undefined) => {
    const { navigate, closeOnSelect, close } = actor();
    // Another tab, or the page said no.
    if (event.defaultPrevented || !isPlain(event)) return;
    if (href !== undefined) follow(event, href, notification, navigate);
    if (closeOnSelect ?? href !== undefined) close();
  };
  return {
    choose: (notification, event, href) => {
      read(notification);
      actor().onSelect?.(notification, event);
      goOn(notification, event, href);
    },
    act: (action, notification, event, href) => {
      read(notification);
      actor().onAction?.(action, notification, event);
      goOn(notification, event, href);
    },
    toggleRead: ({ id, readAt }) => {
      const { markRead, markUnread } = actor().inbox;
      void (readAt ? markUnread : markRead)([id]).catch(ignore);
    },
    putAway: (verb, { id }) => actor().undo?.putAway(verb, id),
  };
}
