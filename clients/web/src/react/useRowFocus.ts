import { useLayoutEffect, useRef, type RefObject } from "react";
import type { Notification } from "../notification.js";
import { focusRow, rowOf } from "./rows.js";
import type { ListWindow } from "./useWindow.js";

interface RowFocus {
  /** Gives a row the focus, wherever in the list it is. */
  readonly go: (at: number) => void;
  /** Gives it to one that comes back, once it is there. */
  readonly goBackTo: (id: string | undefined) => void;
  /** Something else is done: it stays where that leaves it. */
  readonly cancel: () => void;
}

/** Moves the focus to rows that are not rendered, or not yet in the list. */
export function useRowFocus(
  panel: RefObject<HTMLElement | null>,
  rows: readonly Notification[],
  { render }: ListWindow,
): RowFocus {
  const wanted = useRef<string>(undefined);
  const attempt = () => {
    if (wanted.current === undefined || !panel.current) return;
    const at = rows.findIndex(({ id }) => id === wanted.current);
    if (at < 0) return;
    const row = rowOf(panel.current, wanted.current);
    if (!row) {
      render(at);
      return;
    }
    wanted.current = undefined;
    focusRow(row);
    // What stands above the list is seen too.
    if (at === 0) panel.current.scrollTop = 0;
  };
  useLayoutEffect(attempt);
  return {
    go: (at) => {
      wanted.current = rows[at]?.id;
      attempt();
    },
    goBackTo: (id) => {
      wanted.current = id;
    },
    cancel: () => {
      wanted.current = undefined;
    },
  };
}
