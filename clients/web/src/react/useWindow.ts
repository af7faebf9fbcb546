import { useCallback, useLayoutEffect, useRef, useState, type RefObject } from "react";
import type { Notification } from "../notification.js";
import { boxesOf, edgesOf, idOf, isAtEnd, rowOf, topIn } from "./rows.js";
import { useLatest } from "./useLatest.js";
import { AT_TOP, Heights, indexesOf, indexOf, rangeOf, rowAt } from "./window.js";

/** What of a list is rendered. */
export interface ListWindow {
  /** The indexes of the rows that are. */
  readonly shown: readonly number[];
  /** Where each row begins, in CSS pixels from the first, and where the last one ends. */
  readonly tops: readonly number[];
  /** Called when the panel was scrolled. */
  readonly onScroll: () => void;
  /** Called when the list or the panel has another size. */
  readonly onResize: () => void;
  /** Has a row rendered, and those around it, in place of what is seen. */
  readonly render: (at: number) => void;
  /** The row that is about a panel's height away from one. */
  readonly pageFrom: (at: number, step: 1 | -1) => number;
  /** As at first. */
  readonly reset: () => void;
}

/** A row that stays where it is seen, whatever comes and goes above it. */
interface Anchor {
  readonly sequence: number;
  /** From the top of the panel, in CSS pixels. */
  readonly top: number;
  /** How far the panel was scrolled then. */
  readonly scrollTop: number;
}

/** Renders of a long list what is near to where one has scrolled. What is seen is held in
 * its place here, not by the browser: not all do that, and none knows how high a row is
 * that was not rendered before. */
export function useWindow(panel: RefObject<HTMLElement | null>, rows: readonly Notification[]): ListWindow {
  const [range, setRange] = useState(AT_TOP);
  const [heights] = useState(() => new Heights());
  /** Nothing at the top: there what comes is seen. */
  const anchor = useRef<Anchor>(undefined);
  const shown = indexesOf(rows, range);
  const latest = useLatest({ rows, shown });

  const hold = useCallback(() => {
    if (!anchor.current || !panel.current) return;
    const { rows } = latest.current;
    const row = rowOf(panel.current, rows[indexOf(rows, anchor.current.sequence)]?.id);
    if (!row) return;
    // It was scrolled and this has yet to be told, or at its end it has become shorter.
    const scrolled = panel.current.scrollTop - anchor.current.scrollTop;
    if (scrolled !== 0 && isAtEnd(panel.current)) return;
    const top = anchor.current.top - scrolled;
    const by = topIn(panel.current, row) - top;
    if (Math.abs(by) < 0.5) return;
    panel.current.scrollTop += by;
    anchor.current = { ...anchor.current, top, scrollTop: panel.current.scrollTop };
  }, [panel, latest]);
  useLayoutEffect(hold);

  const renderAround = useCallback(
    (from: number, to: number) => {
      const { rows } = latest.current;
      const focused = panel.current?.querySelector<HTMLElement>(".doorbell-item:focus-within");
      const kept = focused ? rows.find(({ id }) => id === idOf(focused))?.sequence : undefined;
      setRange(rangeOf(rows, heights.topsOf(rows), from, to, kept));
    },
    [panel, latest, heights],
  );

  const look = useCallback(() => {
    const list = panel.current?.querySelector<HTMLElement>(".doorbell-list");
    if (!panel.current || !list) return;
    const { rows, shown } = latest.current;
    const boxes = boxesOf(panel.current);
    heights.take(boxes);
    const tops = heights.topsOf(rows);
    const { scrollTop, clientHeight: height } = panel.current;
    const y = -topIn(panel.current, list);

    // Where nobody scrolled it is the same one still: each time it is noted anew it may be
    // off by a part of a pixel.
    if (anchor.current?.scrollTop !== scrollTop) {
      const { upper, lower } = edgesOf(panel.current);
      const topOf = (at: number) => boxes.get(rows[at]?.id ?? "")?.top ?? (tops[at] ?? 0) - y;
      const isSeen = (at: number) => topOf(at) >= upper && topOf(at) < lower;
      // At the end it is the end that stays, though rows above it turn out to be higher.
      const held = isAtEnd(panel.current) ? rows.length - 1 : (shown.find(isSeen) ?? rowAt(tops, y + upper));
      const sequence = scrollTop > 0 ? rows[held]?.sequence : undefined;
      anchor.current = sequence === undefined ? undefined : { sequence, top: topOf(held), scrollTop };
    }

    // It goes on once half of what is rendered out of sight has been scrolled to.
    const [first, last] = [rowAt(tops, y - height / 2), rowAt(tops, y + height * 1.5)];
    const lacking = rows.slice(first, last + 1).some(({ id }) => !boxes.has(id));
    if (lacking) renderAround(y - height, y + height * 2);
  }, [panel, latest, heights, renderAround]);

  const tops = heights.topsOf(rows);
  const topOf = (at: number) => tops[at] ?? 0;
  const height = () => panel.current?.clientHeight ?? 0;
  return {
    shown,
    tops,
    onScroll: look,
    onResize: useCallback(() => {
      hold();
      look();
    }, [hold, look]),
    render: (at) => {
      anchor.current = undefined;
      renderAround(topOf(at) - height() * 1.5, topOf(at) + height() * 1.5);
    },
    pageFrom: (at, step) => {
      const found = rowAt(tops, topOf(at) + step * height() * 0.75);
      return found === at ? at + step : found;
    },
    reset: () => {
      anchor.current = undefined;
      setRange(AT_TOP);
    },
  };
}
