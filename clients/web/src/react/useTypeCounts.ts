import { useEffect, useState } from "react";
import type { InboxClient } from "../client.js";
import type { TypeCounts } from "../snapshot.js";
import type { Tab } from "./tabs.js";

/** So many types can be counted. */
const MOST_TYPES = 20;

/** How many are unread of the types that the tabs are about. */
export function useTypeCounts(inbox: InboxClient, tabs: readonly Tab[]): TypeCounts {
  const [counts, setCounts] = useState<TypeCounts>({});
  const types = [...new Set(tabs.flatMap((tab) => tab.types ?? []))].slice(0, MOST_TYPES);
  const key = JSON.stringify(types);
  useEffect(() => {
    const wanted = JSON.parse(key) as string[];
    if (wanted.length === 0) return;
    const counter = inbox.countTypes(wanted);
    const forget = counter.subscribe(setCounts);
    return () => {
      forget();
      counter.close();
    };
  }, [inbox, key]);
  return counts;
}
