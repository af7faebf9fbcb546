// An inbox is started while anything uses it, and stopped when the last of them goes.

import type { InboxClient } from "./client.js";
import { EMPTY, type Snapshot } from "./snapshot.js";

/** How many use an inbox. */
const users = new WeakMap<InboxClient, number>();

/** Starts it, for this user where one is named. Answers what ends the use. */
export function use(inbox: InboxClient, user: string | undefined): () => void {
  users.set(inbox, (users.get(inbox) ?? 0) + 1);
  inbox.start(user === undefined ? {} : { user });
  let isOver = false;
  return () => {
    if (isOver) return;
    isOver = true;
    const left = (users.get(inbox) ?? 1) - 1;
    users.set(inbox, left);
    // What is moved in the page, or mounted again at once, goes on.
    setTimeout(() => {
      if (users.get(inbox) === 0) inbox.stop();
    });
  };
}

/** What is shown to a user: of another nothing, not for a moment. */
export function shownTo(user: string | undefined, snapshot: Snapshot): Snapshot {
  return user === undefined || snapshot.user === user ? snapshot : EMPTY;
}
