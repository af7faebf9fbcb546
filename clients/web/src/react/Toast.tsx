// One toast: what rang, its links, and a button that takes it away.

import { memo, useEffect, useLayoutEffect, useRef, type Dispatch, type KeyboardEvent, type RefObject } from "react";
import type { InboxClient } from "../client.js";
import type { Notification } from "../notification.js";
import { Actions } from "./Actions.js";
import { DeedsContext } from "./bell.js";
import { useDeedsOf, type Choices } from "./deeds.js";
import { Opener } from "./Opener.js";
import { Picture } from "./Picture.js";
import { hasFocus } from "./rows.js";
import type { Happening } from "./shown.js";
import { filled, type Slots } from "./slots.js";
import { Words } from "./Words.js";

/** What a page may choose of a toast: as of a notification in the list. */
export interface ToastChoices extends Omit<Choices, "closeOnSelect"> {
  /** Parts of the page's own in place of those of a toast. */
  readonly slots?: Pick<Slots, "row" | "image" | "actions"> | undefined;
}

interface ToastProps extends ToastChoices {
  readonly inbox: InboxClient;
  readonly notification: Notification;
  readonly dismissLabel: string;
  /** How long it stays; for ever where it is held. */
  readonly duration: number | undefined;
  /** Where the focus was before it came to the toasts. */
  readonly former: RefObject<HTMLElement | null>;
  readonly tell: Dispatch<Happening>;
}

/** One of them. */
export const Toast = memo(function Toast({ inbox, notification, duration, former, tell, ...props }: ToastProps) {
  const { id, title } = notification;
  const { dismissLabel, slots = {}, ...choices } = props;
  const toast = useRef<HTMLDivElement>(null);
  const dismiss = () => tell({ kind: "gone", ids: [id] });
  const deeds = useDeedsOf({ ...choices, inbox, closeOnSelect: true, close: dismiss });

  useEffect(() => {
    if (duration === undefined) return;
    const timer = setTimeout(() => tell({ kind: "gone", ids: [id] }), duration);
    return () => clearTimeout(timer);
  }, [duration, id, tell]);
  // The focus goes on to the next, or back to where it was.
  useLayoutEffect(() => {
    const element = toast.current;
    return () => {
      if (!element || !hasFocus(element)) return;
      const next = element.nextElementSibling ?? element.previousElementSibling;
      (next?.querySelector<HTMLElement>(".doorbell-open") ?? former.current)?.focus();
    };
  }, [former]);

  const dismissByKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    dismiss();
  };
  const own = slots.row?.(notification);
  return (
    <div ref={toast} className="doorbell-toast" data-unread onKeyDown={dismissByKey}>
      {own === undefined && filled(slots.image?.(notification), <Picture notification={notification} />)}
      <div className="doorbell-main">
        <DeedsContext.Provider value={deeds}>
          <Opener notification={notification}>{filled(own, <Words notification={notification} />)}</Opener>
          {filled(slots.actions?.(notification), <Actions notification={notification} />)}
        </DeedsContext.Provider>
      </div>
      <button
        type="button"
        className="doorbell-dismiss"
        aria-label={`${dismissLabel}: ${title}`}
        title={dismissLabel}
        onClick={dismiss}
      />
    </div>
  );
});
