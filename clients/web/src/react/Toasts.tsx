// What rings, for some seconds, at the edge of the window.

import {
  memo,
  useEffect,
  useLayoutEffect,
  useReducer,
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
import { Announcer } from "./Announcer.js";
import { follow, type Navigate } from "./follow.js";
import { ENGLISH, type Labels } from "./labels.js";
import { useInbox } from "./useInbox.js";

/** What a page may choose of a toast. */
export interface ToastChoices {
  /** Called when a toast is chosen, before its link is followed. */
  readonly onSelect?: ((notification: Notification) => void) | undefined;
  /** Follows links in place of the browser. */
  readonly navigate?: Navigate | undefined;
  /** In place of title and body. */
  readonly renderNotification?: ((notification: Notification) => ReactNode) | undefined;
}

/** What the component is given. */
export interface ToastsProps extends ToastChoices {
  readonly inbox: InboxClient;
  /** Whose inbox it is, see `start`: nothing of another user is shown. */
  readonly user?: string | undefined;
  /** At most so many at once, the newest; 3. */
  readonly most?: number | undefined;
  /** Each goes by itself after so many milliseconds, unless the pointer or the focus is on
   * one of them; 7 seconds. */
  readonly duration?: number | undefined;
  /** Texts in place of the English ones. */
  readonly labels?: Partial<Labels> | undefined;
  /** Added to the outermost element's. */
  readonly className?: string | undefined;
  /** The look; as the system says where it is absent. */
  readonly theme?: "light" | "dark" | undefined;
}

/** Ids, newest first, and what keeps them. */
interface Shown {
  readonly most: number;
  readonly ids: readonly string[];
  /** What rang meanwhile: nothing moves below a pointer. */
  readonly waiting: readonly string[];
  readonly isHovered: boolean;
  readonly isFocused: boolean;
}

type Happening =
  | { readonly kind: "rang"; readonly ids: readonly string[]; readonly most: number }
  | { readonly kind: "gone"; readonly ids: readonly string[] }
  | { readonly kind: "held"; readonly by: Partial<Pick<Shown, "isHovered" | "isFocused">> };

const NONE: Shown = { most: 0, ids: [], waiting: [], isHovered: false, isFocused: false };

function isHeld({ isHovered, isFocused }: Shown): boolean {
  return isHovered || isFocused;
}

function reduce(shown: Shown, happening: Happening): Shown {
  if (happening.kind === "rang") {
    const { ids, most } = happening;
    const key = isHeld(shown) ? "waiting" : "ids";
    const others = shown[key].filter((id) => !ids.includes(id));
    return { ...shown, most, [key]: [...ids, ...others].slice(0, most) };
  }
  let next =
    happening.kind === "held"
      ? { ...shown, ...happening.by }
      : { ...shown, ids: shown.ids.filter((id) => !happening.ids.includes(id)) };
  // What is gone is under no pointer, and nothing says that it left.
  if (next.ids.length === 0) next = { ...next, isHovered: false, isFocused: false };
  if (isHeld(next) || next.waiting.length === 0) return next;
  const { most, waiting } = next;
  const stays = next.ids.filter((id) => !waiting.includes(id));
  return { ...next, ids: [...waiting, ...stays].slice(0, most), waiting: [] };
}

/** Shows what rings while the page is shown. Put it once into a page, with the bell or
 * without. */
export function Toasts({ inbox, user, most = 3, duration = 7000, className, theme, ...props }: ToastsProps) {
  const { notifications } = useInbox(inbox, user);
  const labels = { ...ENGLISH, ...props.labels };
  const [shown, tell] = useReducer(reduce, NONE);
  /** Where the focus was before it came here. */
  const former = useRef<HTMLElement | null>(null);

  useEffect(() => {
    return inbox.onNotification((rows) => {
      // Who comes back finds it in the list.
      if (document.visibilityState === "hidden") return;
      tell({ kind: "rang", ids: rows.slice(-most).map(({ id }) => id).reverse(), most });
    });
  }, [inbox, most]);

  const rows = shown.ids.flatMap((id) => notifications.find((row) => row.id === id && !row.readAt) ?? []);
  const gone = shown.ids.filter((id) => !rows.some((row) => row.id === id)).join();
  useEffect(() => {
    // It was read elsewhere, or taken back: marked as unread it is no news.
    if (gone) tell({ kind: "gone", ids: gone.split(",") });
  }, [gone]);

  return (
    <div className={`doorbell doorbell-toaster ${className ?? ""}`} data-theme={theme}>
      <Announcer inbox={inbox} text={labels.announce} />
      {rows.length > 0 && (
        <Region
          label={labels.toasts}
          former={former}
          hold={(by) => tell({ kind: "held", by })}
        >
          {rows.map((row) => (
            <Toast
              key={row.id}
              inbox={inbox}
              notification={row}
              dismissLabel={labels.dismiss}
              duration={isHeld(shown) ? undefined : duration}
              former={former}
              tell={tell}
              onSelect={props.onSelect}
              navigate={props.navigate}
              renderNotification={props.renderNotification}
            />
          ))}
        </Region>
      )}
    </div>
  );
}

interface RegionProps {
  readonly label: string;
  readonly former: RefObject<HTMLElement | null>;
  readonly hold: (by: Partial<Pick<Shown, "isHovered" | "isFocused">>) => void;
  readonly children: ReactNode;
}

function Region({ label, former, hold, children }: RegionProps) {
  const region = useRef<HTMLDivElement>(null);
  // The top layer: no other element of the page covers it.
  useLayoutEffect(() => void region.current?.togglePopover?.(true), []);
  const isInside = (target: EventTarget | null) =>
    target instanceof Node && region.current?.contains(target) === true;
  return (
    <div
      ref={region}
      popover="manual"
      className="doorbell-toasts"
      role="region"
      aria-label={label}
      onPointerEnter={() => hold({ isHovered: true })}
      onPointerLeave={() => hold({ isHovered: false })}
      onFocus={({ relatedTarget }) => {
        if (isInside(relatedTarget)) return;
        former.current = relatedTarget instanceof HTMLElement ? relatedTarget : null;
        hold({ isFocused: true });
      }}
      onBlur={({ relatedTarget }) => {
        if (!isInside(relatedTarget)) hold({ isFocused: false });
      }}
    >
      {children}
    </div>
  );
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

const Toast = memo(function Toast({ inbox, notification, duration, former, tell, ...props }: ToastProps) {
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
