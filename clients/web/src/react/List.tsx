import { useEffect, useRef } from "react";
import type { Notification } from "../notification.js";
import { isUnread } from "../question.js";
import { Item } from "./Item.js";
import { useSwipes } from "./useSwipes.js";
import type { ListWindow } from "./useWindow.js";

interface ListProps {
  readonly rows: readonly Notification[];
  readonly window: ListWindow;
  /** Whether there are older ones. */
  readonly hasMore: boolean;
}

/** The rows that are near to what is seen, and room in place of the others. */
export function List({ rows, window: { shown, tops, onResize }, hasMore }: ListProps) {
  const list = useRef<HTMLUListElement>(null);
  useSwipes(list, rows);
  useEffect(() => {
    const observer = new ResizeObserver(onResize);
    for (const element of [list.current, list.current?.closest(".doorbell-panel")]) {
      if (element) observer.observe(element);
    }
    return () => observer.disconnect();
  }, [onResize]);
  /** Where there is none the page's own style holds. */
  const roomBetween = (from: number, to: number) => (tops[to] ?? 0) - (tops[from] ?? 0) || undefined;
  const end = (shown.at(-1) ?? -1) + 1;
  return (
    <ul ref={list} role="list" className="doorbell-list" style={{ paddingBottom: roomBetween(end, rows.length) }}>
      {shown.map((at, index) => {
        const row = rows[at];
        if (!row) return null;
        const next = (shown[index - 1] ?? -1) + 1;
        return (
          <li
            key={row.id}
            className="doorbell-item"
            style={{ marginTop: roomBetween(next, at) }}
            data-id={row.id}
            data-unread={isUnread(row) || undefined}
            aria-posinset={at + 1}
            aria-setsize={hasMore ? -1 : rows.length}
          >
            <Item notification={row} />
          </li>
        );
      })}
    </ul>
  );
}
