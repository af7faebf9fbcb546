// The tabs of the list: what each shows.

import type { Question } from "../question.js";
import type { Snapshot, TypeCounts } from "../snapshot.js";
import type { Labels } from "./labels.js";

/** A tab of the page's own: a question to the inbox, with a name. */
export interface Tab extends Question {
  /** Another one than `all`, `unread`, `archived`, and those of other tabs. */
  readonly id: string;
  readonly label: string;
}

/** Those that every inbox has. */
export type TabName = "all" | "unread" | "archived";

/** All of them by the names, or none, or which and in which order. */
export type Tabs = boolean | readonly (TabName | Tab)[];

const NAMES: readonly TabName[] = ["all", "unread", "archived"];

/** The tabs, of which there is at least one. */
export function tabsOf(tabs: Tabs, labels: Labels): readonly [Tab, ...Tab[]] {
  const known: { readonly [name in TabName]: Tab } = {
    all: { id: "all", label: labels.tabAll },
    unread: { id: "unread", label: labels.tabUnread, show: "unread" },
    archived: { id: "archived", label: labels.tabArchived, show: "archived" },
  };
  const wanted = tabs === true ? NAMES : tabs || [];
  const [first = known.all, ...others] = wanted.map((tab) => (typeof tab === "string" ? known[tab] : tab));
  return [first, ...others];
}

/** Whether it is the inbox itself. */
export function isInbox({ show = "inbox", types, about }: Question): boolean {
  return show === "inbox" && !types?.length && !about;
}

/** How many are unread in it, where that is known exactly and says more than the number
 * above the list. */
export function countOf({ show, types, about }: Tab, snapshot: Snapshot, counts: TypeCounts): number | undefined {
  if (show === "archived" || about) return undefined;
  if (!types?.length) return show === "unread" ? snapshot.unreadCount : undefined;
  let sum = 0;
  for (const type of types) {
    const count = counts[type];
    if (!count || count.hasMore) return undefined;
    sum += count.unreadCount;
  }
  return sum;
}
