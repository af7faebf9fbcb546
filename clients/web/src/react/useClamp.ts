import { useCallback, useLayoutEffect, useRef, useState, type RefObject } from "react";

interface Clamp<T> {
  /** The element that the style cuts after some lines. */
  readonly text: RefObject<T | null>;
  /** Whether there is more of it than that. */
  readonly isLong: boolean;
  readonly isWhole: boolean;
  readonly toggle: () => void;
}

/** A text that shows some lines, and all of them where it is asked for. `hasText` says whether
 * there is one: it may come later. */
export function useClamp<T extends HTMLElement>(hasText: boolean): Clamp<T> {
  const text = useRef<T>(null);
  const [isLong, setLong] = useState(false);
  const [isWhole, setWhole] = useState(false);
  // Ended before the text is laid out whole: nothing is cut of it then.
  useLayoutEffect(() => {
    const element = text.current;
    if (!element || isWhole) return;
    // It is told once the browser has laid it out: asking for it would make it do so for
    // each row, one after the other.
    const observer = new ResizeObserver(() => {
      const isCut = element.scrollHeight > element.clientHeight + 1;
      // Told the same, React may render the row once more to find that out.
      if (isCut !== isLong) setLong(isCut);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [hasText, isWhole, isLong]);
  return { text, isLong, isWhole, toggle: useCallback(() => setWhole((was) => !was), []) };
}
