// The focus stays in the panel when what has it goes: without it inside, its keys would do
// nothing.

import { focusRow, rowsOf } from "./keys.js";

/** Watches a panel. Where what has the focus is taken away its row has it, or the one that
 * is now in the place of that, or the panel. Answers what ends it. */
export function keepFocus(panel: HTMLElement): () => void {
  let last: HTMLElement | undefined;
  let row: HTMLElement | undefined;
  let at = -1;
  const note = (event: FocusEvent) => {
    last = event.target as HTMLElement;
    row = last.closest<HTMLElement>(".doorbell-item") ?? undefined;
    at = row ? rowsOf(panel).indexOf(row) : -1;
  };
  const leave = (event: FocusEvent) => {
    if (event.relatedTarget instanceof Node && !panel.contains(event.relatedTarget)) last = undefined;
  };
  const observer = new MutationObserver(() => {
    if (last === undefined) return;
    const rows = row ? rowsOf(panel) : [];
    if (panel.contains(last)) {
      // Others may have come or gone above it.
      if (row) at = rows.indexOf(row);
      return;
    }
    if (panel.contains(document.activeElement)) return;
    const isThere = row !== undefined && panel.contains(row);
    if (!focusRow(isThere ? row : rows[Math.min(at, rows.length - 1)])) panel.focus();
  });
  panel.addEventListener("focusin", note);
  panel.addEventListener("focusout", leave);
  observer.observe(panel, { childList: true, subtree: true });
  return () => {
    panel.removeEventListener("focusin", note);
    panel.removeEventListener("focusout", leave);
    observer.disconnect();
  };
}
