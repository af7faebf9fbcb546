import { useCallback, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { focusRow, rowsOf } from "./keys.js";

/** So many rows are rendered at first, which fills any panel. */
const FIRST = 30;
/** And so many more when the last of them comes near. */
const STEP = 60;

interface Window {
  /** How many rows are rendered. */
  readonly limit: number;
  readonly grow: () => void;
  /** Shows all, and goes to the last. */
  readonly toEnd: () => void;
  /** As at first. */
  readonly reset: () => void;
}

/** How much of a long list is rendered: as far as one has scrolled. */
export function useWindow(panel: RefObject<HTMLElement | null>): Window {
  const [limit, setLimit] = useState(FIRST);
  const [ends, setEnds] = useState(0);
  const done = useRef(ends);
  useLayoutEffect(() => {
    if (done.current === ends || !panel.current) return;
    done.current = ends;
    focusRow(rowsOf(panel.current).at(-1));
  }, [ends, panel]);
  return {
    limit,
    grow: useCallback(() => setLimit((was) => was + STEP), []),
    toEnd: useCallback(() => {
      setLimit(Number.POSITIVE_INFINITY);
      setEnds((was) => was + 1);
    }, []),
    reset: useCallback(() => setLimit(FIRST), []),
  };
}
