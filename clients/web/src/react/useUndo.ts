import { useEffect, useLayoutEffect, useMemo } from "react";
import type { InboxClient } from "../client.js";
import { Undo } from "./undo.js";

/** What can be undone, as long as the list is open and the page is there. */
export function useUndo(inbox: InboxClient, duration: number): Undo {
  const undo = useMemo(() => new Undo(inbox), [inbox]);
  useLayoutEffect(() => {
    undo.duration = duration;
  }, [undo, duration]);
  useEffect(() => {
    const settle = () => undo.settle();
    window.addEventListener("pagehide", settle);
    return () => {
      window.removeEventListener("pagehide", settle);
      settle();
    };
  }, [undo]);
  return undo;
}
