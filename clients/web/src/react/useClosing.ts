import { useEffect, useRef, type FocusEvent, type KeyboardEvent, type RefObject } from "react";
import { useLatest } from "./useLatest.js";

/** Whether it is what the page opens and closes the list by: its `aria-controls` names the
 * element around bell and list, or the one whose shadow root that is in. */
function controls(part: EventTarget, around: HTMLElement): boolean {
  const names = part instanceof Element && part.getAttribute("aria-controls")?.split(/\s+/);
  if (!names) return false;
  const root = around.getRootNode();
  const host = root instanceof ShadowRoot ? root.host.id : "";
  return [around.id, host].some((id) => id !== "" && names.includes(id));
}

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
      const around = root.current;
      const path = event.composedPath();
      const isInside = around && (path.includes(around) || path.some((part) => controls(part, around)));
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
