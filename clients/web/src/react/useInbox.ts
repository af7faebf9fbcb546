import { useEffect, useSyncExternalStore } from "react";
import type { InboxClient } from "../client.js";
import { EMPTY, type Snapshot } from "../snapshot.js";
import { shownTo, use } from "../usage.js";

/** The inbox now, and after each change. It is started while a component uses it. With
 * a `user` it is that user's: of another nothing is answered, not for a moment. */
export function useInbox(inbox: InboxClient, user?: string): Snapshot {
  useEffect(() => use(inbox, user), [inbox, user]);
  const snapshot = useSyncExternalStore(inbox.subscribe, inbox.getSnapshot, () => EMPTY);
  return shownTo(user, snapshot);
}
