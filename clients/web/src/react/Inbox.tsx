// A bell with a badge, and the list behind it.

import {
  useCallback,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
  type ComponentProps,
  type KeyboardEvent,
  type ReactNode,
} from "react";
import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import type { Notification } from "../notification.js";
import { relative } from "./time.js";
import { useInbox } from "./useInbox.js";

/** Every text of the component. */
export interface Labels {
  readonly title: string;
  /** What the bell is called, for who does not see the badge. */
  readonly bell: (unread: number) => string;
  /** What the badge shows. */
  readonly badge: (unread: number) => string;
  readonly empty: string;
  readonly loading: string;
  readonly loadMore: string;
  readonly markRead: string;
  readonly unread: string;
  readonly offline: string;
  readonly reconnecting: string;
  readonly failed: string;
  readonly retry: string;
  /** Said when a notification comes. */
  readonly announce: (notification: Notification) => string;
}

/** The texts in English. */
export const ENGLISH: Labels = {
  title: "Notifications",
  bell: (unread) => (unread === 0 ? "Notifications" : `Notifications, ${unread} unread`),
  badge: (unread) => (unread > 99 ? "99+" : String(unread)),
  empty: "Nothing here yet.",
  loading: "Loading…",
  loadMore: "Show older ones",
  markRead: "Mark as read",
  unread: "Unread",
  offline: "You are offline.",
  reconnecting: "Reconnecting…",
  failed: "Notifications cannot be shown.",
  retry: "Try again",
  announce: (notification) => `New notification: ${notification.title}`,
};

/** What the component is given. */
export interface InboxProps {
  readonly inbox: InboxClient;
  /** Texts in place of the English ones. */
  readonly labels?: Partial<Labels>;
  /** For times; the browser's language where it is absent. */
  readonly locale?: string;
  /** Called when a notification is chosen, before its link is followed. */
  readonly onSelect?: (notification: Notification) => void;
  /** In place of title, body and time. */
  readonly renderNotification?: (notification: Notification) => ReactNode;
  /** Added to the outermost element's. */
  readonly className?: string;
  /** The look; as the system says where it is absent. */
  readonly theme?: "light" | "dark";
}

/** A bell with its inbox. Styled by `@doorbell/web/style.css`, or by your own. */
export function Inbox({ inbox, className, theme, ...props }: InboxProps) {
  const snapshot = useInbox(inbox);
  const labels = { ...ENGLISH, ...props.labels };
  const [isOpen, setOpen] = useState(false);
  const [announced, setAnnounced] = useState<Notification>();
  const root = useRef<HTMLDivElement>(null);
  const bell = useRef<HTMLButtonElement>(null);
  const panel = useId();

  useEffect(() => inbox.onNotification(setAnnounced), [inbox]);
  useEffect(() => {
    if (!isOpen) return;
    const closeOutside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", closeOutside);
    return () => document.removeEventListener("pointerdown", closeOutside);
  }, [isOpen]);

  const close = useCallback(() => {
    setOpen(false);
    bell.current?.focus();
  }, []);
  const closeByKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !isOpen) return;
    event.stopPropagation();
    close();
  };

  return (
    <div
      ref={root}
      className={`doorbell ${className ?? ""}`}
      data-theme={theme}
      onKeyDown={closeByKey}
    >
      <button
        ref={bell}
        type="button"
        className="doorbell-bell"
        aria-label={labels.bell(snapshot.unreadCount)}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? panel : undefined}
        onClick={() => setOpen(!isOpen)}
      >
        <BellIcon />
        {snapshot.unreadCount > 0 && (
          <span className="doorbell-badge" aria-hidden="true">
            {labels.badge(snapshot.unreadCount)}
          </span>
        )}
      </button>
      <div className="doorbell-live" role="status" aria-live="polite">
        {/* An element for each: one that has the text of the last is said too. */}
        {announced && <span key={announced.id}>{labels.announce(announced)}</span>}
      </div>
      {isOpen && (
        <Panel {...props} id={panel} inbox={inbox} snapshot={snapshot} labels={labels} />
      )}
    </div>
  );
}

interface PanelProps extends Omit<InboxProps, "labels" | "className" | "theme"> {
  readonly id: string;
  readonly snapshot: Snapshot;
  readonly labels: Labels;
}

function Panel({ id, inbox, snapshot, labels, ...props }: PanelProps) {
  const panel = useRef<HTMLDivElement>(null);
  const heading = useId();
  const { notifications, isLoaded, hasMore, isLoadingMore, status } = snapshot;
  useEffect(() => panel.current?.focus(), []);

  const move = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const items = [...(panel.current?.querySelectorAll(".doorbell-item") ?? [])];
    const at = items.findIndex((item) => item.contains(event.target as Node));
    const next = items[Math.max(0, Math.min(items.length - 1, at + step))];
    next?.querySelector<HTMLElement>(".doorbell-open")?.focus();
  };

  return (
    <div
      ref={panel}
      id={id}
      className="doorbell-panel"
      role="dialog"
      aria-labelledby={heading}
      tabIndex={-1}
      onKeyDown={move}
    >
      <h2 id={heading} className="doorbell-title">
        {labels.title}
      </h2>
      {status === "offline" && <p className="doorbell-note">{labels.offline}</p>}
      {status === "reconnecting" && <p className="doorbell-note">{labels.reconnecting}</p>}
      {status === "failed" && (
        <p className="doorbell-note doorbell-error" role="alert">
          {labels.failed}{" "}
          <Fleeting className="doorbell-link" onClick={() => inbox.retry()}>
            {labels.retry}
          </Fleeting>
        </p>
      )}
      {!isLoaded && status !== "failed" && (
        <p className="doorbell-empty" aria-busy="true">
          {labels.loading}
        </p>
      )}
      {isLoaded && notifications.length === 0 && <p className="doorbell-empty">{labels.empty}</p>}
      {notifications.length > 0 && (
        <ul className="doorbell-list">
          {notifications.map((notification) => (
            <Item
              {...props}
              key={notification.id}
              inbox={inbox}
              labels={labels}
              notification={notification}
            />
          ))}
        </ul>
      )}
      {hasMore && <More isLoading={isLoadingMore} labels={labels} load={() => inbox.loadMore()} />}
    </div>
  );
}

interface ItemProps extends Omit<InboxProps, "labels" | "className" | "theme"> {
  readonly notification: Notification;
  readonly labels: Labels;
}

function Item({ inbox, notification, labels, locale, onSelect, renderNotification }: ItemProps) {
  const isUnread = !notification.readAt;
  // What fails is shown as unread again: that says enough.
  const markRead = () => void inbox.markRead([notification.id]).catch(() => undefined);
  const select = () => {
    if (isUnread) markRead();
    onSelect?.(notification);
  };
  const content = renderNotification?.(notification) ?? (
    <Content notification={notification} locale={locale} />
  );
  const href = safeLink(notification.actionUrl);
  return (
    <li className="doorbell-item" data-unread={isUnread || undefined}>
      {href === undefined ? (
        <button type="button" className="doorbell-open" onClick={select}>
          {isUnread && <span className="doorbell-hidden">{labels.unread}: </span>}
          {content}
        </button>
      ) : (
        <a className="doorbell-open" href={href} onClick={select}>
          {isUnread && <span className="doorbell-hidden">{labels.unread}: </span>}
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

function Content({
  notification,
  locale,
}: {
  readonly notification: Notification;
  readonly locale: string | undefined;
}) {
  const created = new Date(notification.createdAt);
  return (
    <>
      <span className="doorbell-subject">{notification.title}</span>
      {notification.body && <span className="doorbell-body">{notification.body}</span>}
      <time
        className="doorbell-time"
        dateTime={notification.createdAt}
        title={created.toLocaleString(locale)}
      >
        {relative(created, new Date(), locale)}
      </time>
    </>
  );
}

/** Loads the next page when it is scrolled to, or pressed. */
function More({
  isLoading,
  labels,
  load,
}: {
  readonly isLoading: boolean;
  readonly labels: Labels;
  readonly load: () => Promise<void>;
}) {
  const place = useRef<HTMLDivElement>(null);
  const hasFailed = useRef(false);
  const latest = useRef(load);
  latest.current = load;
  const loadNow = useCallback(async () => {
    try {
      hasFailed.current = false;
      await latest.current();
    } catch {
      hasFailed.current = true;
    }
  }, []);
  useEffect(() => {
    if (isLoading || !place.current || typeof IntersectionObserver === "undefined") return;
    const observer = new IntersectionObserver((entries) => {
      // It is still in view after a failure: only who presses it tries again.
      const isInView = entries.some((entry) => entry.isIntersecting);
      if (isInView && !hasFailed.current) void loadNow();
    });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [loadNow, isLoading]);
  return (
    <div ref={place}>
      <Fleeting className="doorbell-more" aria-busy={isLoading} onClick={() => void loadNow()}>
        {isLoading ? labels.loading : labels.loadMore}
      </Fleeting>
    </div>
  );
}

/** A button that may go while it has the focus: its item then has it, or the list.
 * Without the focus inside, the keys of the list would do nothing. */
function Fleeting(props: ComponentProps<"button">) {
  const ref = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    const button = ref.current;
    return () => {
      if (!button?.matches(":focus")) return;
      const item = button.parentElement?.querySelector<HTMLElement>(".doorbell-open");
      (item ?? button.closest<HTMLElement>(".doorbell-panel"))?.focus();
    };
  }, []);
  return <button {...props} ref={ref} type="button" />;
}

/** The service lets only such through; a page should not have to trust it. */
function safeLink(url: string | undefined): string | undefined {
  return url !== undefined && /^(https?:\/\/|\/(?!\/))/i.test(url) ? url : undefined;
}

function BellIcon() {
  return (
    <svg viewBox="0 0 24 24" width="1.4em" height="1.4em" aria-hidden="true" fill="none">
      <path
        d="M6 16v-5a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
