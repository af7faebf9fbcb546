import { computed, shallowRef, toRaw, toValue, watchPostEffect, type ComputedRef, type MaybeRefOrGetter } from "vue";
import type { InboxClient } from "../client.js";
import { EMPTY, type Snapshot } from "../snapshot.js";
import { shownTo, use } from "../usage.js";

/** The inbox now, and after each change. It is started once the component is in the page, or
 * the scope is made, and let go with that; on a server it stays empty. With a `user` it is
 * that user's: of another nothing is answered, not for a moment. */
export function useInbox(
  inbox: MaybeRefOrGetter<InboxClient>,
  user?: MaybeRefOrGetter<string | undefined>,
): ComputedRef<Snapshot> {
  // One that is kept in a `ref` is wrapped, and is the same inbox.
  const wanted = () => toRaw(toValue(inbox));
  const held = shallowRef<{ readonly of: InboxClient; readonly snapshot: Snapshot }>();
  watchPostEffect((onCleanup) => {
    const of = wanted();
    const stop = use(of, toValue(user));
    const forget = of.subscribe((snapshot) => {
      held.value = { of, snapshot };
    });
    onCleanup(() => {
      forget();
      stop();
    });
  });
  return computed(() => {
    const { of, snapshot } = held.value ?? {};
    return snapshot && of === wanted() ? shownTo(toValue(user), snapshot) : EMPTY;
  });
}
