// Which toasts are shown.

/** What keeps toasts where they are. */
export interface Holds {
  readonly isHovered: boolean;
  readonly isFocused: boolean;
}

/** Ids, newest first. */
export interface Shown extends Holds {
  /** At most so many at once. */
  readonly most: number;
  readonly ids: readonly string[];
  /** What rang while they were held: nothing moves below a pointer. */
  readonly waiting: readonly string[];
}

/** What changes that. */
export type Happening =
  | { readonly kind: "rang"; readonly ids: readonly string[]; readonly most: number }
  | { readonly kind: "gone"; readonly ids: readonly string[] }
  | { readonly kind: "held"; readonly by: Partial<Holds> };

export const NONE: Shown = { most: 0, ids: [], waiting: [], isHovered: false, isFocused: false };

export function isHeld({ isHovered, isFocused }: Holds): boolean {
  return isHovered || isFocused;
}

export function reduce(shown: Shown, happening: Happening): Shown {
  if (happening.kind === "rang") {
    const { ids, most } = happening;
    const key = isHeld(shown) ? "waiting" : "ids";
    const others = shown[key].filter((id) => !ids.includes(id));
    return { ...shown, most, [key]: [...ids, ...others].slice(0, most) };
  }
  let next =
    happening.kind === "held"
      ? { ...shown, ...happening.by }
      : { ...shown, ids: shown.ids.filter((id) => !happening.ids.includes(id)) };
  // What is gone is under no pointer, and nothing says that it left.
  if (next.ids.length === 0) next = { ...next, isHovered: false, isFocused: false };
  if (isHeld(next) || next.waiting.length === 0) return next;
  const { most, waiting } = next;
  const stays = next.ids.filter((id) => !waiting.includes(id));
  return { ...next, ids: [...waiting, ...stays].slice(0, most), waiting: [] };
}
