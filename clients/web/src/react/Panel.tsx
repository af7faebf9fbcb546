// The list behind the bell.

import { useEffect, useId, useLayoutEffect, useRef, type KeyboardEvent, type RefObject } from "react";
import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import { Fleeting } from "./Fleeting.js";
import { Item, type ItemChoices } from "./Item.js";
import type { Labels } from "./labels.js";
import { More } from "./More.js";
import { keepPlaced } from "./place.js";
import { useNow } from "./time.js";

interface PanelProps extends ItemChoices {
  readonly id: string;
  readonly bell: RefObject<HTMLElement | null>;
  readonly inbox: InboxClient;
  readonly snapshot: Snapshot;
  readonly labels: Labels;
}

export function Panel({ id, bell, inbox, snapshot, labels, ...choices }: PanelProps) {
  const panel = useRef<HTMLDivElement>(null);
  const heading = useId();
  const now = useNow();
  const { notifications, isLoaded, hasMore, isLoadingMore, status, unreadCount, unseenCount } = snapshot;
  useLayoutEffect(() => {
    if (!panel.current || !bell.current) return;
    const letGo = keepPlaced(panel.current, bell.current);
    panel.current.focus({ preventScroll: true });
    return letGo;
  }, [bell]);
  // What is in the list of a page that is shown is seen, also what comes while it is open.
  useEffect(() => {
    const isLookedAt = document.visibilityState !== "hidden" && unseenCount > 0;
    if (isLookedAt) void inbox.markSeen().catch(() => undefined);
  }, [inbox, notifications, unseenCount, status]);

  // What is refused is shown as unread again: that says enough.
  const markAllRead = () => inbox.markAllRead().catch(() => undefined);

  return (
    <div
      ref={panel}
      id={id}
      popover="manual"
      className="doorbell-panel"
      role="dialog"
      aria-labelledby={heading}
      tabIndex={-1}
      onKeyDown={move}
    >
      <div className="doorbell-head">
        <h2 id={heading} className="doorbell-title">
          {labels.title}
        </h2>
        {unreadCount > 0 && (
          <>
            <span className="doorbell-count">{labels.unreadCount(unreadCount)}</span>
            <Fleeting className="doorbell-link" onClick={() => void markAllRead()}>
              {labels.markAllRead}
            </Fleeting>
          </>
        )}
      </div>
      <Standing inbox={inbox} snapshot={snapshot} labels={labels} />
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
              {...choices}
              key={notification.id}
              inbox={inbox}
              labels={labels}
              notification={notification}
              now={now}
            />
          ))}
        </ul>
      )}
      {hasMore && <More isLoading={isLoadingMore} labels={labels} load={inbox.loadMore} />}
    </div>
  );
}

/** How it stands where it does not stand well. */
function Standing({ inbox, snapshot, labels }: Pick<PanelProps, "inbox" | "snapshot" | "labels">) {
  const { status, error, pendingMarks } = snapshot;
  const isFailed = status === "failed";
  const said =
    status === "offline" || status === "reconnecting" || status === "delayed" || isFailed
      ? labels[status]
      : "";
  const problem = error && status !== "live" ? labels.problem(error) : "";
  return (
    <div role="status">
      {(said || problem) && (
        <div className={`doorbell-note ${isFailed ? "doorbell-error" : ""}`}>
          {said}{" "}
          {status !== "offline" && (
            <Fleeting className="doorbell-link" onClick={inbox.retry}>
              {labels.retry}
            </Fleeting>
          )}
          {problem && (
            <p className="doorbell-problem" dir="auto">
              {problem}
            </p>
          )}
        </div>
      )}
      {pendingMarks > 0 && <p className="doorbell-note">{labels.pendingMarks(pendingMarks)}</p>}
    </div>
  );
}

/** The keys of the list: from item to item, and to its ends. */
function move(event: KeyboardEvent<HTMLElement>): void {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const target = event.target as HTMLElement;
  // What a page shows in an item may have keys of its own.
  if (target.matches("input, textarea, select, [contenteditable]")) return;
  const items = [...event.currentTarget.querySelectorAll<HTMLElement>(".doorbell-item")];
  const at = items.findIndex((item) => item.contains(target));
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const item = items[Math.max(0, Math.min(items.length - 1, next))];
  item?.querySelector<HTMLElement>(".doorbell-open")?.focus();
}
