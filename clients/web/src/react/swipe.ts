// A row is swept aside by a finger: to its start or to its end. What goes up or down is the
// browser's, which scrolls.

export type Side = "start" | "end";

interface Swipes {
  /** What a sweep of a row to a side does, in words; nothing where it does nothing. */
  readonly label: (id: string | undefined, side: Side) => string | undefined;
  readonly done: (id: string | undefined, side: Side) => void;
}

interface Sweep {
  readonly pointer: number;
  readonly item: HTMLElement;
  readonly row: HTMLElement;
  readonly x: number;
  readonly y: number;
  by: number;
  isSideways: boolean;
}

/** A finger that goes so far, in CSS pixels, and more to the side than up or down, sweeps. */
const SLOP = 10;
/** Of the width of a row: let go beyond that it is done. */
const FAR = 0.35;

/** Watches the rows of a list; answers what ends that. */
export function watchSwipes(list: HTMLElement, { label, done }: Swipes): () => void {
  const ended = new AbortController();
  const { signal } = ended;
  let sweep: Sweep | undefined;

  const side = (by: number): Side =>
    by < 0 !== (getComputedStyle(list).direction === "rtl") ? "start" : "end";
  const isFar = ({ by, row }: Sweep) => Math.abs(by) > row.offsetWidth * FAR;

  const letGo = () => {
    if (!sweep) return;
    const { item, row } = sweep;
    sweep = undefined;
    row.style.removeProperty("translate");
    for (const name of ["data-swipe", "data-swipe-label", "data-swipe-far"]) item.removeAttribute(name);
  };

  const down = ({ target, pointerType, isPrimary, pointerId, clientX, clientY }: PointerEvent) => {
    letGo();
    const item = (target as Element).closest<HTMLElement>(".doorbell-item");
    const row = item?.querySelector<HTMLElement>(".doorbell-row");
    if (!item || !row || pointerType === "mouse" || !isPrimary) return;
    sweep = { pointer: pointerId, item, row, x: clientX, y: clientY, by: 0, isSideways: false };
  };

  const move = ({ pointerId, clientX, clientY }: PointerEvent) => {
    if (sweep?.pointer !== pointerId) return;
    const by = clientX - sweep.x;
    if (!sweep.isSideways) {
      if (Math.abs(by) < SLOP || Math.abs(by) < Math.abs(clientY - sweep.y)) return;
      sweep.isSideways = true;
      list.setPointerCapture(pointerId);
    }
    const { item, row } = sweep;
    const text = label(item.dataset["id"], side(by));
    sweep.by = text === undefined ? 0 : by;
    row.style.setProperty("translate", `${sweep.by}px`);
    item.dataset["swipe"] = side(by);
    item.dataset["swipeLabel"] = text ?? "";
    item.toggleAttribute("data-swipe-far", isFar(sweep));
  };

  const up = ({ pointerId }: PointerEvent) => {
    if (sweep?.pointer !== pointerId) return;
    const { item, by, isSideways } = sweep;
    const isDone = isSideways && isFar(sweep);
    letGo();
    if (!isSideways) return;
    // It ends on a row, and chooses none.
    const swallow = (event: Event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    window.addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => window.removeEventListener("click", swallow, { capture: true }));
    if (isDone) done(item.dataset["id"], side(by));
  };

  list.addEventListener("pointerdown", down, { signal });
  list.addEventListener("pointermove", move, { signal });
  list.addEventListener("pointerup", up, { signal });
  list.addEventListener("pointercancel", letGo, { signal });
  return () => {
    letGo();
    ended.abort();
  };
}
