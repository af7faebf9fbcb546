import { useCallback, useState, type RefObject } from "react";
import type { Notification } from "../notification.js";

/** Scrolled further than that, in CSS pixels, what comes is out of sight. */
const AWAY = 60;

interface News {
  /** How many came on top since the list was scrolled away from it. */
  readonly count: number;
  readonly onScroll: () => void;
}

export function useNews(panel: RefObject<HTMLElement | null>, rows: readonly Notification[]): News {
  /** The newest when one left the top; nothing at the top. */
  const [newest, setNewest] = useState<number>();
  const top = rows[0]?.sequence ?? 0;
  const onScroll = useCallback(() => {
    const isAway = (panel.current?.scrollTop ?? 0) > AWAY;
    setNewest((was) => (isAway ? (was ?? top) : undefined));
  }, [panel, top]);
  let count = 0;
  if (newest !== undefined) while ((rows[count]?.sequence ?? 0) > newest) count += 1;
  return { count, onScroll };
}
