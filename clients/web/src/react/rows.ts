// The rows of a panel that are in the document.

export function rowsOf(panel: HTMLElement): HTMLElement[] {
  return [...panel.querySelectorAll<HTMLElement>(".doorbell-item")];
}

export function idOf(row: HTMLElement): string {
  return row.dataset["id"] ?? "";
}

export function rowOf(panel: HTMLElement, id: string | undefined): HTMLElement | undefined {
  return rowsOf(panel).find((row) => idOf(row) === id);
}

/** The row that an element is in. */
export function rowAround(element: EventTarget | null): HTMLElement | undefined {
  return (element as HTMLElement | null)?.closest<HTMLElement>(".doorbell-item") ?? undefined;
}

/** Whether the focus is in an element: in a shadow root it is that root which knows. */
export function hasFocus(element: HTMLElement): boolean {
  return element.contains((element.getRootNode() as Document | ShadowRoot).activeElement);
}

/** Whether it cannot be scrolled any further down. */
export function isAtEnd({ scrollTop, clientHeight, scrollHeight }: HTMLElement): boolean {
  return scrollTop + clientHeight >= scrollHeight - 1;
}

/** Where something begins, from the top of the panel, in CSS pixels. */
export function topIn(panel: HTMLElement, element: HTMLElement): number {
  return element.getBoundingClientRect().top - panel.getBoundingClientRect().top;
}

function bottomIn(panel: HTMLElement, element: HTMLElement): number {
  return element.getBoundingClientRect().bottom - panel.getBoundingClientRect().top;
}

/** Where a row begins, from the top of the panel, and how high it is. */
interface Box {
  readonly top: number;
  readonly height: number;
}

/** Those of the rows that are there, by their ids. */
export function boxesOf(panel: HTMLElement): ReadonlyMap<string, Box> {
  const { top: origin } = panel.getBoundingClientRect();
  return new Map(
    rowsOf(panel).map((row) => {
      const { top, height } = row.getBoundingClientRect();
      return [idOf(row), { top: top - origin, height }];
    }),
  );
}

/** Between which heights rows are seen, from the top of the panel: what sticks to its top
 * and to its end covers some. */
export function edgesOf(panel: HTMLElement): { readonly upper: number; readonly lower: number } {
  const head = panel.querySelector<HTMLElement>(".doorbell-top");
  const undo = panel.querySelector<HTMLElement>(".doorbell-undo");
  return {
    upper: head ? Math.max(0, bottomIn(panel, head)) : 0,
    lower: undo ? Math.min(panel.offsetHeight, topIn(panel, undo)) : panel.offsetHeight,
  };
}

/** Gives a row the focus, and scrolls no further than is needed to see it whole. Answers
 * whether there was one. */
export function focusRow(row: HTMLElement | undefined): boolean {
  const target = row?.querySelector<HTMLElement>(".doorbell-open");
  const panel = row?.closest<HTMLElement>(".doorbell-panel");
  if (!row || !target || !panel) return false;
  target.focus({ preventScroll: true });
  const { upper, lower } = edgesOf(panel);
  const above = upper - topIn(panel, row);
  const below = bottomIn(panel, row) - lower;
  if (above > 0) panel.scrollTop -= above;
  else if (below > 0) panel.scrollTop += Math.min(below, -above);
  return true;
}
