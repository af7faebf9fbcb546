// Where the panel stands: at the bell, and always inside of the window.

/** The free space around the panel, in CSS pixels. */
const GAP = 8;
/** With so much room below the bell it is not opened above. */
const COMFORT = 320;
/** With less on either side of the bell it may cover it. */
const LEAST = 160;

/** Puts the panel below the bell where there is room, else above, its end at the
 * bell's end, and moved as far as the window asks for. */
export function place(panel: HTMLElement, bell: HTMLElement): void {
  const { clientWidth: width, clientHeight: height } = document.documentElement;
  const at = bell.getBoundingClientRect();
  const { style } = panel;
  const set = (name: string, pixels: number) => style.setProperty(name, `${pixels}px`);

  set("max-width", width - 2 * GAP);
  const isRtl = getComputedStyle(bell).direction === "rtl";
  const wished = isRtl ? at.left : at.right - panel.offsetWidth;
  set("left", Math.max(GAP, Math.min(wished, width - panel.offsetWidth - GAP)));

  // The bell may be scrolled out of the window, the panel stays in it.
  const below = Math.max(GAP, at.bottom + GAP);
  const above = Math.max(GAP, height - at.top + GAP);
  const roomBelow = height - below - GAP;
  const roomAbove = height - above - GAP;
  const isBelow = roomBelow >= Math.min(COMFORT, roomAbove);
  const room = isBelow ? roomBelow : roomAbove;
  style.removeProperty(isBelow ? "bottom" : "top");
  // Held by the side that is next to the bell, it may grow without being moved.
  if (room < LEAST) set(isBelow ? "top" : "bottom", GAP);
  else if (isBelow) set("top", below);
  else set("bottom", above);
  set("--doorbell-room", room < LEAST ? height - 2 * GAP : room);
}

/** Keeps it in its place until what is answered is called. */
export function keepPlaced(panel: HTMLElement, bell: HTMLElement): () => void {
  const ended = new AbortController();
  const { signal } = ended;
  const move = () => place(panel, bell);
  // The top layer: no other element of the page covers or cuts it.
  panel.togglePopover?.(true);
  move();
  const scrolled = (event: Event) => {
    if (event.target !== panel) move();
  };
  window.addEventListener("scroll", scrolled, { signal, capture: true, passive: true });
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
