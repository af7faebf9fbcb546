// A notification in the list.

import { memo } from "react";
import type { Notification } from "../notification.js";
import { Actions } from "./Actions.js";
import { useBell } from "./bell.js";
import { Opener } from "./Opener.js";
import { Picture } from "./Picture.js";
import { filled } from "./slots.js";
import { Time } from "./Time.js";
import { useClamp } from "./useClamp.js";
import { Verbs } from "./Verbs.js";

interface ItemProps {
  readonly notification: Notification;
}

/** Rendered again only when its notification changes, or what the page chose. */
export const Item = memo(function Item({ notification }: ItemProps) {
  const { labels, slots } = useBell();
  const { id, title, body, readAt, archivedAt } = notification;
  const { text, isLong, isWhole, toggle } = useClamp<HTMLSpanElement>();
  const isUnread = !readAt && !archivedAt;
  const own = slots.row?.(notification);
  // What people wrote may be of another direction than the page.
  const content = (
    <>
      {isUnread && <span className="doorbell-hidden">{labels.unread}: </span>}
      {filled(
        own,
        <>
          <span className="doorbell-subject" dir="auto">
            {title}
          </span>
          {body && (
            <span ref={text} className="doorbell-body" dir="auto" data-whole={isWhole || undefined}>
              {body}
            </span>
          )}
        </>,
      )}
    </>
  );
  return (
    <li className="doorbell-item" data-id={id} data-unread={isUnread || undefined}>
      <div className="doorbell-row">
        {own === undefined && filled(slots.image?.(notification), <Picture notification={notification} />)}
        <div className="doorbell-main">
          <Opener notification={notification} draggable={false}>
            {content}
          </Opener>
          {own === undefined && (
            <div className="doorbell-foot">
              <Time of={notification.createdAt} />
              {isLong && (
                <button
                  type="button"
                  className="doorbell-clamp"
                  aria-expanded={isWhole}
                  aria-label={`${isWhole ? labels.less : labels.more}: ${title}`}
                  onClick={toggle}
                >
                  {isWhole ? labels.less : labels.more}
                </button>
              )}
            </div>
          )}
          {filled(slots.actions?.(notification), <Actions notification={notification} />)}
        </div>
        <Verbs notification={notification} />
      </div>
    </li>
  );
});
