import { useEffect, useRef } from "react";
import type { Notification } from "../notification.js";
import { useBell, useDeeds } from "./bell.js";
import { Item } from "./Item.js";
import { watchSwipes } from "./swipe.js";

/** The rows. Those that are out of sight are in the document, and the browser lays them
 * out once they come near. */
export function List({ rows }: { readonly rows: readonly Notification[] }) {
  const list = useRef<HTMLUListElement>(null);
  const { labels } = useBell();
  const { putAway } = useDeeds();
  const latest = useRef(rows);
  useEffect(() => {
    latest.current = rows;
  });
  useEffect(() => {
    if (!list.current) return;
    const verbOf = (side: "start" | "end", row: Notification) =>
      side === "end" ? "remove" : row.archivedAt ? "unarchive" : "archive";
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
  }, [labels, putAway]);
  return (
    <ul ref={list} className="doorbell-list">
      {rows.map((notification) => (
        <Item key={notification.id} notification={notification} />
      ))}
    </ul>
  );
}
