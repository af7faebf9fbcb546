import { useCallback, useEffect, useRef } from "react";
import type { Labels } from "./labels.js";

interface MoreProps {
  readonly isLoading: boolean;
  readonly labels: Labels;
  readonly load: () => Promise<void>;
}

/** Loads the next page when it is scrolled to, or pressed. */
export function More({ isLoading, labels, load }: MoreProps) {
  const place = useRef<HTMLDivElement>(null);
  const hasFailed = useRef(false);
  const loadNow = useCallback(async () => {
    try {
      hasFailed.current = false;
      await load();
    } catch {
      hasFailed.current = true;
    }
  }, [load]);
  useEffect(() => {
    if (isLoading || !place.current || typeof IntersectionObserver === "undefined") return;
    const observer = new IntersectionObserver((entries) => {
      // It is still in view after a failure: only who presses it tries again.
      const isInView = entries.some((entry) => entry.isIntersecting);
      if (isInView && !hasFailed.current) void loadNow();
    });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [loadNow, isLoading]);
  return (
    <div ref={place}>
      <button type="button" className="doorbell-more" aria-busy={isLoading} onClick={() => void loadNow()}>
        {isLoading ? labels.loading : labels.loadMore}
      </button>
    </div>
  );
}
