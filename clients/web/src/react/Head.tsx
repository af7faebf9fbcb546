import { useLayoutEffect, useRef, useState } from "react";
import type { InboxClient } from "../client.js";
import { useBell } from "./bell.js";
import { Icon } from "./Icon.js";
import { filled } from "./slots.js";
import type { Tab } from "./tabs.js";

interface HeadProps {
  readonly inbox: InboxClient;
  readonly tab: Tab;
  readonly unreadCount: number;
  readonly isEmpty: boolean;
  /** Of the title. */
  readonly id: string;
  /** Nothing where there are none. */
  readonly openPreferences: (() => void) | undefined;
  /** The person was there, and comes back. */
  readonly isBack: boolean;
  readonly close: () => void;
}

// What is refused is shown as it was again: that says enough.
const ignore = () => undefined;

/** What is above the list: its title, and what is done to all of it. */
export function Head({ inbox, tab, unreadCount, isEmpty, id, isBack, ...others }: HeadProps) {
  const { labels, slots } = useBell();
  const [isAsking, setAsking] = useState(false);
  const gear = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    if (isBack) gear.current?.focus();
  }, [isBack]);
  const { show = "inbox", types, about } = tab;
  const isBounded = show !== "archived" && !about;
  const markAllRead = isBounded ? () => void inbox.markAllRead({ types }).catch(ignore) : undefined;
  const archiveAll = isBounded ? () => void inbox.archiveAll({ types }).catch(ignore) : undefined;
  const { openPreferences, close } = others;
  const own = slots.header?.({ unreadCount, markAllRead, archiveAll, openPreferences, close });
  return filled(
    own,
    <div className="doorbell-head">
      <h2 id={id} className="doorbell-title">
        {labels.title}
      </h2>
      <span className="doorbell-count">{unreadCount > 0 && labels.unreadCount(unreadCount)}</span>
      {openPreferences && (
        <button
          ref={gear}
          type="button"
          className="doorbell-verb doorbell-gear"
          aria-label={labels.preferences}
          title={labels.preferences}
          onClick={openPreferences}
        >
          <Icon name="preferences" />
        </button>
      )}
      <div className="doorbell-all">
        {markAllRead && unreadCount > 0 && (
          <button type="button" className="doorbell-link" onClick={markAllRead}>
            {labels.markAllRead}
          </button>
        )}
        {archiveAll && show === "inbox" && !isEmpty && (
          <button
            type="button"
            className="doorbell-link"
            onClick={() => {
              if (isAsking) archiveAll();
              setAsking(!isAsking);
            }}
            onBlur={() => setAsking(false)}
          >
            {isAsking ? labels.confirmArchiveAll : labels.archiveAll}
          </button>
        )}
      </div>
    </div>,
  );
}
