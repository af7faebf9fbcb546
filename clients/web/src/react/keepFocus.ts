// The focus stays in the panel when what has it goes: without it inside, its keys would do
// nothing.

import { focusRow, hasFocus, rowAround, rowsOf } from "./rows.js";

/** Watches a panel. Where what has the focus is taken away its row has it, or the one that
 * is now in the place of that, or the panel. Answers what ends it. */
export function keepFocus(panel: HTMLElement): () => void {
  let last: HTMLElement | undefined;
  let row: HTMLElement | undefined;
  /** Those that were there with it. */
  let rows: readonly HTMLElement[] = [];
  const note = (event: FocusEvent) => {
    last = event.target as HTMLElement;
    row = rowAround(last);
    rows = row ? rowsOf(panel) : [];
  };
  const leave = (event: FocusEvent) => {
    if (event.relatedTarget instanceof Node && !panel.contains(event.relatedTarget)) last = undefined;
  };
  const observer = new MutationObserver(() => {
    if (last === undefined) return;
    if (panel.contains(last)) {
      if (row) rows = rowsOf(panel);
      return;
    }
    if (hasFocus(panel)) return;
    const isThere = (other: HTMLElement) => panel.contains(other);
    const at = row ? rows.indexOf(row) : rows.length;
    const next = rows.slice(at).find(isThere) ?? rows.slice(0, at).findLast(isThere);
    if (!focusRow(next)) panel.focus();
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
