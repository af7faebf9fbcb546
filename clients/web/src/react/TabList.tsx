import { useRef, type KeyboardEvent } from "react";
import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import { useBell } from "./bell.js";
import { countOf, type Tab } from "./tabs.js";
import { useTypeCounts } from "./useTypeCounts.js";

interface TabListProps {
  readonly inbox: InboxClient;
  readonly snapshot: Snapshot;
  readonly tabs: readonly Tab[];
  readonly chosen: Tab;
  /** Of the panel below, and the start of those of the tabs. */
  readonly panelId: string;
  readonly choose: (tab: Tab) => void;
}

/** The tabs, of which one has the focus: the arrow keys go on to the next. */
export function TabList({ inbox, snapshot, tabs, chosen, panelId, choose }: TabListProps) {
  const { labels } = useBell();
  const list = useRef<HTMLDivElement>(null);
  const counts = useTypeCounts(inbox, tabs);
  const move = (event: KeyboardEvent) => {
    const isRtl = list.current !== null && getComputedStyle(list.current).direction === "rtl";
    const at = tabs.indexOf(chosen);
    const forth = isRtl ? "ArrowLeft" : "ArrowRight";
    const back = isRtl ? "ArrowRight" : "ArrowLeft";
    const last = tabs.length - 1;
    const next = { [forth]: at === last ? 0 : at + 1, [back]: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    const tab = next === undefined ? undefined : tabs[next];
    if (next === undefined || !tab) return;
    event.preventDefault();
    event.stopPropagation();
    choose(tab);
    (list.current?.children[next] as HTMLElement).focus();
  };
  return (
    <div ref={list} className="doorbell-tabs" role="tablist" aria-label={labels.title} onKeyDown={move}>
      {tabs.map((tab) => {
        const isChosen = tab === chosen;
        const count = countOf(tab, snapshot, counts);
        return (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${panelId}-${tab.id}`}
            className="doorbell-tab"
            aria-selected={isChosen}
            aria-controls={isChosen ? panelId : undefined}
            tabIndex={isChosen ? 0 : -1}
            onClick={() => choose(tab)}
          >
            {tab.label}
            {count !== undefined && count > 0 && (
              <>
                <span className="doorbell-number" aria-hidden="true">
                  {labels.badge(count)}
                </span>
                <span className="doorbell-hidden">, {labels.unreadCount(count)}</span>
              </>
            )}
          </button>
        );
      })}
    </div>
  );
}
