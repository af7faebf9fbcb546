// The keys of the list.

import type { KeyboardEvent } from "react";

/** Where a key leads from the row at an index; nothing where it is no key for that. */
const NEXT: Readonly<Record<string, (rows: readonly HTMLElement[], at: number, height: number) => number>> = {
  ArrowDown: (_, at) => at + 1,
  ArrowUp: (_, at) => at - 1,
  Home: () => 0,
  PageDown: (rows, at, height) => pageFrom(rows, at, 1, height),
  PageUp: (rows, at, height) => pageFrom(rows, at, -1, height),
};

/** Moves the focus from row to row; answers whether the key was one for that. `toEnd` shows
 * every row that is loaded, and then goes to the last. */
export function moveByKey(event: KeyboardEvent<HTMLElement>, toEnd: () => void): boolean {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || isTyping(event)) return false;
  const next = NEXT[event.key];
  if (!next && event.key !== "End") return false;
  event.preventDefault();
  if (!next) {
    toEnd();
    return true;
  }
  const panel = event.currentTarget;
  const rows = rowsOf(panel);
  const at = rows.findIndex((row) => row.contains(event.target as Node));
  focusRow(rows[Math.max(0, Math.min(rows.length - 1, next(rows, at, panel.clientHeight)))]);
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
