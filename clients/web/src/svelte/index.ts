// `@doorbell/web/svelte`: the inbox as a store of Svelte's. The component is beside it.

import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import { shownTo, use } from "../usage.js";

/** A store that is read, as Svelte's contract for stores has it. */
export interface InboxStore {
  readonly subscribe: (listener: (snapshot: Snapshot) => void) => () => void;
}

/** The inbox as a store: it is started with the first who subscribes, and let go with the
 * last. With a `user` it is that user's: of another nothing is told, not for a moment. On a
 * server it tells of an empty one. */
export function useInbox(inbox: InboxClient, user?: string): InboxStore {
  return {
    subscribe: (listener) => {
      const isInBrowser = "document" in globalThis;
      const stop = isInBrowser ? use(inbox, user) : undefined;
      const forget = inbox.subscribe((snapshot) => listener(shownTo(user, snapshot)));
      return () => {
        forget();
        stop?.();
      };
    },
  };
}
