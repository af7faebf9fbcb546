// Where the panel stands: at the bell, and always inside of the window.

/** On which side of the bell the list stands, and with which of its edges at the bell's;
 * beside it, before or after it as one reads. */
export type Placement =
  | "below-start"
  | "below-end"
  | "above-start"
  | "above-end"
  | "before"
  | "after";

/** The free space around the panel, in CSS pixels. */
const GAP = 8;
/** With so much room on the wished side of the bell it is not opened on the other. */
const COMFORT = 320;
/** With less on either side of the bell it may cover it. */
const LEAST = 160;

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The edges of the bell in the window. */
export interface Edges {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Where the panel is held, in CSS pixels. */
export interface Spot {
  readonly left: number;
  /** By one of these two it is held: it may grow without being moved. */
  readonly top?: number;
  readonly bottom?: number;
  /** How high it may be. */
  readonly room: number;
}

/** Where a panel of some width stands. */
export function spotOf(at: Edges, width: number, window: Size, isRtl: boolean, placement: Placement): Spot {
  const inWindow = (left: number) => Math.max(GAP, Math.min(left, window.width - width - GAP));
  if (placement === "before" || placement === "after") {
    const left = beside(at, width, window, (placement === "after") !== isRtl);
    if (left !== undefined) return { left, ...alongside(at, window) };
  }
  const isAtStart = placement.endsWith("-start") || placement === "after";
  const isAtLeft = isAtStart !== isRtl;
  const left = inWindow(isAtLeft ? at.left : at.right - width);
  return { left, ...over(at, window, placement.startsWith("above")) };
}

/** To its right or left; nothing where neither has room. */
function beside(at: Edges, width: number, window: Size, isRight: boolean): number | undefined {
  const right = at.right + GAP;
  const left = at.left - GAP - width;
  const fitsRight = right + width + GAP <= window.width;
  const fitsLeft = left >= GAP;
  if (fitsRight && (isRight || !fitsLeft)) return right;
  return fitsLeft ? left : undefined;
}

/** Beside the bell: downwards from its top in the upper half of the window, upwards from
 * its bottom in the lower one. */
function alongside(at: Edges, { height }: Size): Omit<Spot, "left"> {
  const isUpper = at.top + at.bottom <= height;
  const from = Math.max(GAP, isUpper ? at.top : height - at.bottom);
  const held = Math.min(from, Math.max(GAP, height - COMFORT));
  return { [isUpper ? "top" : "bottom"]: held, room: height - held - GAP };
}

/** Below or above the bell. It may be scrolled out of the window, the panel stays in it. */
function over(at: Edges, { height }: Size, isAbove: boolean): Omit<Spot, "left"> {
  const below = Math.max(GAP, at.bottom + GAP);
  const above = Math.max(GAP, height - at.top + GAP);
  const [roomBelow, roomAbove] = [height - below - GAP, height - above - GAP];
  const isBelow = isAbove
    ? roomAbove < Math.min(COMFORT, roomBelow)
    : roomBelow >= Math.min(COMFORT, roomAbove);
  const room = isBelow ? roomBelow : roomAbove;
  const isTight = room < LEAST;
  const held = isTight ? GAP : isBelow ? below : above;
  return { [isBelow ? "top" : "bottom"]: held, room: isTight ? height - 2 * GAP : room };
}

/** Puts the panel there. */
export function place(panel: HTMLElement, bell: HTMLElement, placement: Placement): void {
  const { clientWidth: width, clientHeight: height } = document.documentElement;
  const { style } = panel;
  const set = (name: string, pixels: number | undefined) => {
    if (pixels === undefined) style.removeProperty(name);
    else style.setProperty(name, `${pixels}px`);
  };
  set("max-width", width - 2 * GAP);
  const isRtl = getComputedStyle(bell).direction === "rtl";
  const at = bell.getBoundingClientRect();
  const spot = spotOf(at, panel.offsetWidth, { width, height }, isRtl, placement);
  for (const name of ["left", "top", "bottom"] as const) set(name, spot[name]);
  set("--doorbell-room", spot.room);
}

/** Keeps it in its place until what is answered is called. */
export function keepPlaced(panel: HTMLElement, bell: HTMLElement, placement: Placement): () => void {
  const ended = new AbortController();
  const { signal } = ended;
  const move = () => place(panel, bell, placement);
  // The top layer: no other element of the page covers or cuts it.
  panel.togglePopover?.(true);
  move();
  const scrolled = (event: Event) => {
    if (event.target !== panel) move();
  };
  const listen = (target: EventTarget) =>
    target.addEventListener("scroll", scrolled, { signal, capture: true, passive: true });
  listen(window);
  // What is scrolled in a shadow root is not told outside of it.
  for (let root = bell.getRootNode(); root instanceof ShadowRoot; root = root.host.getRootNode()) listen(root);
  window.addEventListener("resize", move, { signal });
  const observer = new ResizeObserver(move);
  for (const element of [document.documentElement, document.body, bell, panel]) {
    observer.observe(element);
  }
  return () => {
    ended.abort();
    observer.disconnect();
  };
}
