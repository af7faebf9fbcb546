// A notification in the list.

import type { ReactNode } from "react";
import type { InboxClient } from "../client.js";
import type { Notification } from "../notification.js";
import { Fleeting } from "./Fleeting.js";
import type { Labels } from "./labels.js";
import { safeLink } from "../link.js";
import { relative } from "./time.js";

/** What a page may choose of an item. */
export interface ItemChoices {
  /** For times; the browser's language where it is absent. */
  readonly locale?: string | undefined;
  /** Called when a notification is chosen, before its link is followed. */
  readonly onSelect?: ((notification: Notification) => void) | undefined;
  /** In place of title, body and time. */
  readonly renderNotification?: ((notification: Notification) => ReactNode) | undefined;
}

interface ItemProps extends ItemChoices {
  readonly inbox: InboxClient;
  readonly notification: Notification;
  readonly labels: Labels;
  readonly now: Date;
}

export function Item({ inbox, notification, labels, onSelect, ...props }: ItemProps) {
  const isUnread = !notification.readAt;
  // What is refused is shown as unread again: that says enough.
  const markRead = () => void inbox.markRead([notification.id]).catch(() => undefined);
  const select = () => {
    if (isUnread) markRead();
    onSelect?.(notification);
  };
  const href = safeLink(notification.actionUrl);
  const content = (
    <>
      {isUnread && <span className="doorbell-hidden">{labels.unread}: </span>}
      {props.renderNotification?.(notification) ?? (
        <Content notification={notification} now={props.now} locale={props.locale} />
      )}
    </>
  );
  return (
    <li className="doorbell-item" data-unread={isUnread || undefined}>
      {href === undefined ? (
        <button type="button" className="doorbell-open" onClick={select}>
          {content}
        </button>
      ) : (
        <a className="doorbell-open" href={href} onClick={select}>
          {content}
        </a>
      )}
      {isUnread && (
        <Fleeting
          className="doorbell-mark"
          aria-label={`${labels.markRead}: ${notification.title}`}
          title={labels.markRead}
          onClick={markRead}
        />
      )}
    </li>
  );
}

interface ContentProps {
  readonly notification: Notification;
  readonly now: Date;
  readonly locale: string | undefined;
}

function Content({ notification: { title, body, createdAt }, now, locale }: ContentProps) {
  const created = new Date(createdAt);
  // What people wrote may be of another direction than the page.
  return (
    <>
      <span className="doorbell-subject" dir="auto">
        {title}
      </span>
      {body && (
        <span className="doorbell-body" dir="auto">
          {body}
        </span>
      )}
      <time className="doorbell-time" dateTime={createdAt} title={created.toLocaleString(locale)}>
        {relative(created, now, locale)}
      </time>
    </>
  );
}
