// One thing at a time that somebody does, and what came of it.

import { useCallback, useEffect, useRef, useState } from "react";
import { reasonOf } from "./desk.js";

export interface Act {
  readonly isBusy: boolean;
  /** What to say of it; empty: nothing. */
  readonly said: string;
  readonly isError: boolean;
  /** Does it, and says what it answers. */
  readonly run: (what: () => Promise<string | void>) => Promise<void>;
}

export function useAct(): Act {
  const [state, setState] = useState({ isBusy: false, said: "", isError: false });
  // What was begun later is said, and not what came later.
  const last = useRef(0);
  const run = useCallback(async (what: () => Promise<string | void>) => {
    const own = ++last.current;
    setState((before) => ({ ...before, isBusy: true }));
    let next;
    try {
      next = { isBusy: false, said: (await what()) ?? "", isError: false };
    } catch (error) {
      next = { isBusy: false, said: reasonOf(error), isError: true };
    }
    if (own === last.current) setState(next);
  }, []);
  return { ...state, run };
}

/** Calls `what` again and again while `isOn` and the page is visible, each time so long after
 * the last answer. Why it failed is said by who calls. */
export function useRepeated(what: () => Promise<void>, everyMs: number, isOn = true): void {
  const latest = useRef(what);
  latest.current = what;
  useEffect(() => {
    if (!isOn) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const turn = async () => {
      if (document.visibilityState === "visible") await latest.current();
      if (!isOver) timer = setTimeout(() => void turn(), everyMs);
    };
    timer = setTimeout(() => void turn(), everyMs);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [everyMs, isOn]);
}
