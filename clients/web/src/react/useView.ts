import { useEffect, useState } from "react";
import type { InboxClient } from "../client.js";
import type { Question } from "../question.js";
import { EMPTY_VIEW, type Snapshot, type ViewSnapshot } from "../snapshot.js";
import { isInbox } from "./tabs.js";

/** A list, and what loads more of it. */
export interface Shown extends ViewSnapshot {
  readonly loadMore: () => Promise<void>;
}

const NOTHING: Shown = { ...EMPTY_VIEW, loadMore: async () => undefined };

/** The list that answers a question, which is open while it is shown. */
export function useView(inbox: InboxClient, { show, types, about }: Question, snapshot: Snapshot): Shown {
  const question = { show, types, about };
  const key = isInbox(question) ? undefined : JSON.stringify(question);
  const [held, setHeld] = useState<{ key: string; shown: Shown }>();
  useEffect(() => {
    if (key === undefined) return;
    const view = inbox.view(JSON.parse(key) as Question);
    const { loadMore } = view;
    const forget = view.subscribe((next) => setHeld({ key, shown: { ...next, loadMore } }));
    return () => {
      forget();
      view.close();
      setHeld(undefined);
    };
  }, [inbox, key]);
  if (key === undefined) return { ...snapshot, loadMore: inbox.loadMore };
  return held?.key === key ? held.shown : NOTHING;
}
