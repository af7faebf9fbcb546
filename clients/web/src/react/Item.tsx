// What a row of the list shows.

import { memo } from "react";
import type { Notification } from "../notification.js";
import { isUnread } from "../question.js";
import { Actions } from "./Actions.js";
import { useBell } from "./bell.js";
import { Opener } from "./Opener.js";
import { Picture } from "./Picture.js";
import { filled } from "./slots.js";
import { Time } from "./Time.js";
import { useClamp } from "./useClamp.js";
import { Verbs } from "./Verbs.js";
import { Words } from "./Words.js";

interface ItemProps {
  readonly notification: Notification;
}

/** Rendered again only when its notification changes, or what the page chose. */
export const Item = memo(function Item({ notification }: ItemProps) {
  const { labels, slots } = useBell();
  const { title, body, createdAt } = notification;
  const { text, isLong, isWhole, toggle } = useClamp<HTMLSpanElement>(Boolean(body));
  const own = slots.row?.(notification);
  return (
    <div className="doorbell-row">
      {own === undefined && filled(slots.image?.(notification), <Picture notification={notification} />)}
      <div className="doorbell-main">
        <Opener notification={notification} draggable={false}>
          {isUnread(notification) && <span className="doorbell-hidden">{labels.unread}: </span>}
          {filled(own, <Words notification={notification} body={text} isWhole={isWhole} />)}
        </Opener>
        {own === undefined && (
          <div className="doorbell-foot">
            <Time of={createdAt} />
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
  );
});
