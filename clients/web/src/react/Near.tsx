import { useEffect, useRef } from "react";

/** How far below what is seen it is near, in CSS pixels. */
const MARGIN = 800;

/** The end of what is rendered: calls `come` when one scrolls near it, and again while it
 * stays there. `of` is how many rows are above it. */
export function Near({ of, come }: { readonly of: number; readonly come: () => void }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    if (!element || typeof IntersectionObserver === "undefined") return;
    const root = element.closest(".doorbell-panel");
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) come();
      },
      { root, rootMargin: `${MARGIN}px` },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [come, of]);
  return <div ref={place} className="doorbell-near" />;
}
