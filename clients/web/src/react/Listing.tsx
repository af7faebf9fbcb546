import type { Notification } from "../notification.js";
import { useBell } from "./bell.js";
import { List } from "./List.js";
import { More } from "./More.js";
import { filled } from "./slots.js";
import type { Tab } from "./tabs.js";
import type { Shown } from "./useView.js";
import type { ListWindow } from "./useWindow.js";

interface ListingProps {
  readonly tab: Tab;
  readonly view: Shown;
  /** Those of the view that are shown. */
  readonly rows: readonly Notification[];
  /** Which of them are rendered. */
  readonly window: ListWindow;
  readonly isFailed: boolean;
}

const EMPTY = { inbox: "empty", unread: "emptyUnread", archived: "emptyArchived" } as const;

/** The rows of a tab, or what is said where there are none. */
export function Listing({ tab, view, rows, window, isFailed }: ListingProps) {
  const { labels, slots } = useBell();
  const { isLoaded, hasMore, isLoadingMore, error, loadMore } = view;
  if (!isLoaded) {
    if (isFailed) return null;
    const problem = error ? labels.problem(error) : "";
    return filled(
      slots.loading?.(),
      <p className="doorbell-empty" aria-busy="true">
        {labels.loading} {problem}
      </p>,
    );
  }
  return (
    <>
      {rows.length > 0 && <List rows={rows} window={window} hasMore={hasMore} />}
      {rows.length === 0 &&
        !hasMore &&
        filled(
          slots.empty?.(tab.id),
          <p className="doorbell-empty">{labels[EMPTY[tab.show ?? "inbox"]]}</p>,
        )}
      {hasMore && <More isLoading={isLoadingMore} labels={labels} load={loadMore} />}
    </>
  );
}
