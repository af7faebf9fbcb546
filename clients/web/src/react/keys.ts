// The keys of the list.

import type { KeyboardEvent } from "react";

/** Moves the focus from row to row; answers whether the key was one for that. `all` shows
 * every row that is loaded, and then goes to the last. */
export function moveByKey(event: KeyboardEvent<HTMLElement>, toEnd: () => void): boolean {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || isTyping(event)) return false;
  const panel = event.currentTarget;
  const rows = rowsOf(panel);
  const at = rows.findIndex((row) => row.contains(event.target as Node));
  const next = {
    ArrowDown: at + 1,
    ArrowUp: at - 1,
    Home: 0,
    PageDown: pageFrom(rows, at, 1, panel.clientHeight),
    PageUp: pageFrom(rows, at, -1, panel.clientHeight),
  }[event.key];
  if (next === undefined && event.key !== "End") return false;
  event.preventDefault();
  if (next === undefined) toEnd();
  else focusRow(rows[Math.max(0, Math.min(rows.length - 1, next))]);
  return true;
}

/** What a page shows in a row may have keys of its own. */
export function isTyping({ target }: KeyboardEvent): boolean {
  return (target as HTMLElement).matches("input, textarea, select, [contenteditable]");
}

export function rowsOf(panel: HTMLElement): HTMLElement[] {
  return [...panel.querySelectorAll<HTMLElement>(".doorbell-item")];
}

/** Answers whether there was one. */
export function focusRow(row: HTMLElement | undefined): boolean {
  const target = row?.querySelector<HTMLElement>(".doorbell-open");
  target?.focus();
  return target !== null && target !== undefined;
}

/** The row that is about a panel's height away. */
function pageFrom(rows: readonly HTMLElement[], from: number, step: 1 | -1, height: number): number {
  let at = Math.max(0, from);
  const start = rows[at]?.offsetTop ?? 0;
  while (rows[at + step] && Math.abs((rows[at + step]?.offsetTop ?? 0) - start) < height * 0.75) at += step;
  return at === from ? at + step : at;
}
