// The keys of the list.

import type { KeyboardEvent } from "react";

type Page = (at: number, step: 1 | -1) => number;

/** Where a key leads from the row at an index. */
const NEXT: Readonly<Record<string, (at: number, last: number, page: Page) => number>> = {
  ArrowDown: (at) => at + 1,
  ArrowUp: (at) => at - 1,
  Home: () => 0,
  End: (_, last) => last,
  PageDown: (at, _, page) => page(Math.max(0, at), 1),
  PageUp: (at, _, page) => page(Math.max(0, at), -1),
};

/** The index of the row that a key leads to from that at `at`, which is -1 where the focus
 * is on none; nothing where it is no key for that. `pageFrom` says which row is a page
 * away. */
export function nextRow(event: KeyboardEvent, at: number, count: number, pageFrom: Page): number | undefined {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || isTyping(event)) return undefined;
  const next = NEXT[event.key]?.(at, count - 1, pageFrom);
  return next === undefined ? undefined : Math.max(0, Math.min(count - 1, next));
}

/** Whether it is the key that undoes. */
export function isUndo(event: KeyboardEvent): boolean {
  const isWithKey = (event.ctrlKey || event.metaKey) && !event.shiftKey;
  return event.key.toLowerCase() === "z" && isWithKey && !isTyping(event);
}

/** What a page shows in a row may have keys of its own. */
export function isTyping({ target }: KeyboardEvent): boolean {
  return (target as HTMLElement).matches("input, textarea, select, [contenteditable]");
}
