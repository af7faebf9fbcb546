import { useEffect, useRef, type FocusEvent, type KeyboardEvent, type RefObject } from "react";
import { useLatest } from "./useLatest.js";

/** Closes the list by Escape, and when the pointer or the focus goes elsewhere. Answers
 * with what the element around bell and list listens to. */
export function useClosing(
  root: RefObject<HTMLElement | null>,
  bell: RefObject<HTMLElement | null>,
  isOpen: boolean,
  close: () => void,
) {
  const latest = useLatest(close);
  /** Tab was pressed, and what it does has yet to be seen. */
  const isTabbing = useRef(false);

  useEffect(() => {
    if (!isOpen) return;
    const closeOutside = (event: Event) => {
      const isInside = root.current && event.composedPath().includes(root.current);
      if (!isInside) latest.current();
    };
    document.addEventListener("pointerdown", closeOutside);
    document.addEventListener("focusin", closeOutside);
    return () => {
      document.removeEventListener("pointerdown", closeOutside);
      document.removeEventListener("focusin", closeOutside);
    };
  }, [isOpen, root, latest]);

  return {
    onKeyDown: (event: KeyboardEvent) => {
      isTabbing.current = event.key === "Tab";
      if (event.key !== "Escape" || !isOpen) return;
      event.stopPropagation();
      latest.current();
      bell.current?.focus();
    },
    onKeyUp: () => {
      isTabbing.current = false;
    },
    // Out of the page: nothing in it has the focus then.
    onBlur: ({ relatedTarget }: FocusEvent) => {
      if (isOpen && isTabbing.current && relatedTarget === null) latest.current();
    },
  };
}
