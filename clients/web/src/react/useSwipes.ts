import { useEffect, type RefObject } from "react";
import type { Notification } from "../notification.js";
import { useBell, useDeeds } from "./bell.js";
import { watchSwipes, type Side } from "./swipe.js";
import { useLatest } from "./useLatest.js";

const verbOf = (side: Side, row: Notification) =>
  side === "end" ? "remove" : row.archivedAt ? "unarchive" : "archive";

/** Rows are put away by a finger. */
export function useSwipes(list: RefObject<HTMLElement | null>, rows: readonly Notification[]): void {
  const { labels } = useBell();
  const { putAway } = useDeeds();
  const latest = useLatest(rows);
  useEffect(() => {
    if (!list.current) return;
    const find = (id: string | undefined) => latest.current.find((row) => row.id === id);
    return watchSwipes(list.current, {
      label: (id, side) => {
        const row = find(id);
        return row && labels[verbOf(side, row)];
      },
      done: (id, side) => {
        const row = find(id);
        if (row) putAway(verbOf(side, row), row);
      },
    });
  }, [list, latest, labels, putAway]);
}
