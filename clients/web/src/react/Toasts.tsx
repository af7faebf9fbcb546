// What rings, for some seconds, at the edge of the window.

import { useEffect, useLayoutEffect, useReducer, useRef, type ReactNode, type RefObject } from "react";
import type { InboxClient } from "../client.js";
import { Announcer } from "./Announcer.js";
import { ENGLISH, type Labels } from "./labels.js";
import { isHeld, NONE, reduce, type Holds } from "./shown.js";
import { Toast, type ToastChoices } from "./Toast.js";
import { useInbox } from "./useInbox.js";

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
              slots={props.slots}
              onSelect={props.onSelect}
              onAction={props.onAction}
              navigate={props.navigate}
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
  readonly hold: (by: Partial<Holds>) => void;
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
