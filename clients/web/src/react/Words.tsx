import type { RefObject } from "react";
import type { Notification } from "../notification.js";

interface WordsProps {
  readonly notification: Notification;
  /** The element of its body. */
  readonly body?: RefObject<HTMLSpanElement | null>;
  /** Whether all of the body is shown, however long it is. */
  readonly isWhole?: boolean;
}

/** What a notification says. What people wrote may be of another direction than the page. */
export function Words({ notification: { title, body }, body: element, isWhole }: WordsProps) {
  return (
    <>
      <span className="doorbell-subject" dir="auto">
        {title}
      </span>
      {body && (
        <span ref={element} className="doorbell-body" dir="auto" data-whole={isWhole || undefined}>
          {body}
        </span>
      )}
    </>
  );
}
