// What the parts of a bell share. It is the same object while the page chooses the same:
// a row is rendered again only when its notification changes.

import { createContext, useContext, useRef } from "react";
import type { Deeds } from "./deeds.js";
import { ENGLISH, type Labels } from "./labels.js";
import type { Slots } from "./slots.js";

export interface Bell {
  readonly labels: Labels;
  readonly slots: Slots;
  readonly locale: string | undefined;
}

const NOTHING = () => undefined;

export const BellContext = createContext<Bell>({ labels: ENGLISH, slots: {}, locale: undefined });
export const DeedsContext = createContext<Deeds>({
  choose: NOTHING,
  act: NOTHING,
  toggleRead: NOTHING,
  putAway: NOTHING,
});

export const useBell = () => useContext(BellContext);
export const useDeeds = () => useContext(DeedsContext);

/** The former object, as long as the next has the same in it: pages write `{...}` anew
 * each time they render. */
export function useSame<T extends object>(next: T): T {
  const former = useRef(next);
  if (!isSame(former.current, next)) former.current = next;
  return former.current;
}

function isSame<T extends object>(one: T, other: T): boolean {
  const keys = Object.keys(one) as (keyof T)[];
  return (
    keys.length === Object.keys(other).length && keys.every((key) => Object.is(one[key], other[key]))
  );
}
