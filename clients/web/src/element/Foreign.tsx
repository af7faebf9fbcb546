import { useLayoutEffect, useRef } from "react";
import type { Slots } from "../react/slots.js";
import type { ElementSlots, SlotAnswer } from "./slots.js";

/** A node that the page made. */
function Foreign({ node }: { readonly node: Node }) {
  const place = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => place.current?.replaceChildren(node), [node]);
  return <span ref={place} className="doorbell-own" />;
}

function shown(answer: SlotAnswer) {
  return answer instanceof Node ? <Foreign node={answer} /> : answer;
}

/** The slots as the bell takes them. */
export function slotsOf(slots: ElementSlots): Slots {
  const given = Object.entries(slots as Record<string, ((of: unknown) => SlotAnswer) | undefined>);
  return Object.fromEntries(
    given.flatMap(([name, fill]) => (fill ? [[name, (of: unknown) => shown(fill(of))]] : [])),
  );
}
