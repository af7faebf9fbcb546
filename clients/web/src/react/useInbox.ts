import { useEffect, useSyncExternalStore } from "react";
import type { InboxClient } from "../client.js";
import { EMPTY, type Snapshot } from "../snapshot.js";

/** How many components use an inbox: it is stopped when the last one goes. */
const users = new WeakMap<InboxClient, number>();

/** The inbox now, and after each change. It is started while a component uses it. With
 * a `user` it is that user's: of another nothing is answered, not for a moment. */
export function useInbox(inbox: InboxClient, user?: string): Snapshot {
  useEffect(() => {
    users.set(inbox, (users.get(inbox) ?? 0) + 1);
    inbox.start(user === undefined ? {} : { user });
    return () => {
      const left = (users.get(inbox) ?? 1) - 1;
      users.set(inbox, left);
      // React may mount it again at once; then it goes on.
      setTimeout(() => {
        if (users.get(inbox) === 0) inbox.stop();
      });
    };
  }, [inbox, user]);
  const snapshot = useSyncExternalStore(inbox.subscribe, inbox.getSnapshot, () => EMPTY);
  return user === undefined || snapshot.user === user ? snapshot : EMPTY;
}
