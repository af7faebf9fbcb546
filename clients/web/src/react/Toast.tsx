// One toast: what rang, its links, and a button that takes it away.

import {
  memo,
  useEffect,
  useLayoutEffect,
  useRef,
  type Dispatch,
  type KeyboardEvent,
  type MouseEvent,
  type ReactNode,
  type RefObject,
} from "react";
import type { InboxClient } from "../client.js";
import { safeLink } from "../link.js";
import type { Notification } from "../notification.js";
import { follow, type Navigate } from "./follow.js";
import type { Happening } from "./shown.js";

/** What a page may choose of a toast. */
export interface ToastChoices {
  /** Called when a toast is chosen, before its link is followed. */
  readonly onSelect?: ((notification: Notification) => void) | undefined;
  /** Follows links in place of the browser. */
  readonly navigate?: Navigate | undefined;
  /** In place of title and body. */
  readonly renderNotification?: ((notification: Notification) => ReactNode) | undefined;
}

interface ToastProps extends ToastChoices {
  readonly inbox: InboxClient;
  readonly notification: Notification;
  readonly dismissLabel: string;
  /** How long it stays; for ever where it is held. */
  readonly duration: number | undefined;
  readonly former: RefObject<HTMLElement | null>;
  readonly tell: Dispatch<Happening>;
}

/** One of them. */
export const Toast = memo(function Toast({ inbox, notification, duration, former, tell, ...props }: ToastProps) {
  const { id, title, body, actionUrl, actions = [] } = notification;
  const toast = useRef<HTMLDivElement>(null);
  const dismiss = () => tell({ kind: "gone", ids: [id] });

  useEffect(() => {
    if (duration === undefined) return;
    const timer = setTimeout(() => tell({ kind: "gone", ids: [id] }), duration);
    return () => clearTimeout(timer);
  }, [duration, id, tell]);
  // The focus goes on to the next, or back to where it was.
  useLayoutEffect(() => {
    const element = toast.current;
    return () => {
      if (!element?.contains(document.activeElement)) return;
      const next = element.nextElementSibling ?? element.previousElementSibling;
      (next?.querySelector<HTMLElement>(".doorbell-open") ?? former.current)?.focus();
    };
  }, [former]);

  const select = (event: MouseEvent, url?: string) => {
    // What is refused is shown as unread again: that says enough.
    void inbox.markRead([id]).catch(() => undefined);
    props.onSelect?.(notification);
    if (url !== undefined) follow(event, url, notification, props.navigate);
    dismiss();
  };
  const dismissByKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    dismiss();
  };
  const href = safeLink(actionUrl);
  // What people wrote may be of another direction than the page.
  const content = props.renderNotification?.(notification) ?? (
    <>
      <span className="doorbell-subject" dir="auto">
        {title}
      </span>
      {body && (
        <span className="doorbell-body" dir="auto">
          {body}
        </span>
      )}
    </>
  );
  return (
    <div ref={toast} className="doorbell-toast" data-unread onKeyDown={dismissByKey}>
      {href === undefined ? (
        <button type="button" className="doorbell-open" onClick={select}>
          {content}
        </button>
      ) : (
        <a className="doorbell-open" href={href} onClick={(event) => select(event, href)}>
          {content}
        </a>
      )}
      <button
        type="button"
        className="doorbell-dismiss"
        aria-label={`${props.dismissLabel}: ${title}`}
        title={props.dismissLabel}
        onClick={dismiss}
      />
      {actions.length > 0 && (
        <div className="doorbell-toast-actions">
          {actions.map(({ label, url, isPrimary }) => {
            const link = safeLink(url);
            return (
              link !== undefined && (
                <a
                  key={label + url}
                  className="doorbell-toast-action"
                  data-primary={isPrimary || undefined}
                  dir="auto"
                  href={link}
                  onClick={(event) => select(event, link)}
                >
                  {label}
                </a>
              )
            );
          })}
        </div>
      )}
    </div>
  );
});
