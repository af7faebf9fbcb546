import { useCallback, useSyncExternalStore } from "react";
import { useBell } from "./bell.js";
import { absolute, relative, subscribeClock } from "./time.js";

/** How long ago it was. It is rendered again when it would say something else, and nothing
 * around it is. */
export function Time({ of }: { readonly of: string }) {
  const { locale } = useBell();
  const said = useCallback(() => relative(new Date(of), new Date(), locale), [of, locale]);
  const text = useSyncExternalStore(subscribeClock, said, said);
  return (
    <time className="doorbell-time" dateTime={of} title={absolute(new Date(of), locale)}>
      {text}
    </time>
  );
}
