import { useLayoutEffect, useRef, type RefObject } from "react";

/** What it was when the component was last rendered, for functions that stay the same. */
export function useLatest<T>(value: T): Readonly<RefObject<T>> {
  const latest = useRef(value);
  useLayoutEffect(() => {
    latest.current = value;
  });
  return latest;
}
