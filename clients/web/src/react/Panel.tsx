// The list behind the bell.

import {
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type KeyboardEvent,
  type RefObject,
} from "react";
import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import { DeedsContext, useBell } from "./bell.js";
import { useDeedsOf, type Choices } from "./deeds.js";
import { Head } from "./Head.js";
import { keepFocus } from "./keepFocus.js";
import { isTyping, isUndo, nextRow } from "./keys.js";
import { Listing } from "./Listing.js";
import { keepPlaced, type Placement } from "./place.js";
import { Preferences } from "./Preferences.js";
import { rowAround } from "./rows.js";
import { Standing } from "./Standing.js";
import type { TypeNames } from "./switches.js";
import { TabList } from "./TabList.js";
import { tabsOf, type Tab, type Tabs } from "./tabs.js";
import { UndoBar } from "./UndoBar.js";
import { useNews } from "./useNews.js";
import { useRowFocus } from "./useRowFocus.js";
import { useUndo } from "./useUndo.js";
import { useView } from "./useView.js";
import { useWindow } from "./useWindow.js";

/** What a page may choose of the list. */
export interface PanelChoices extends Choices {
  /** Where the list stands at the bell; `below-end`. Where there is no room it goes to the
   * other side, and always stays in the window. */
  readonly placement?: Placement | undefined;
  /** `true` for all, unread and archived; or which, with those of your own; none. */
  readonly tabs?: Tabs | undefined;
  /** Whether the person can say here which types they want: of those that the service has
   * anything of, or of those that are named here first; `false`. */
  readonly preferences?: boolean | TypeNames | undefined;
  /** How long what was archived or removed can be brought back, in milliseconds; 6
   * seconds. Only then is something removed. */
  readonly undoDuration?: number | undefined;
}

interface PanelProps extends PanelChoices {
  readonly id: string;
  readonly bell: RefObject<HTMLElement | null>;
  readonly inbox: InboxClient;
  readonly snapshot: Snapshot;
  readonly close: () => void;
}

export function Panel({ id, bell, inbox, snapshot, close, ...choices }: PanelProps) {
  const { placement = "below-end", undoDuration = 6000 } = choices;
  const { labels, slots } = useBell();
  const panel = useRef<HTMLDivElement>(null);
  const [listId, headingId] = [useId(), useId()];
  const tabs = useMemo(() => tabsOf(choices.tabs ?? false, labels), [choices.tabs, labels]);
  const [tabId, setTabId] = useState<string>();
  /** Whether the preferences are shown; nothing where they never were. */
  const [isChoosing, setChoosing] = useState<boolean>();
  const tab = tabs.find((other) => other.id === tabId) ?? tabs[0];
  const undo = useUndo(inbox, undoDuration);
  const hidden = useSyncExternalStore(undo.subscribe, undo.hidden, undo.hidden);
  const view = useView(inbox, tab, snapshot);
  const rows = useMemo(
    () => view.notifications.filter((row) => !hidden.has(row.id)),
    [view.notifications, hidden],
  );
  const window = useWindow(panel, rows);
  const focus = useRowFocus(panel, rows, window);
  const news = useNews(panel, rows);
  const deeds = useDeedsOf({ ...choices, inbox, undo, close });
  const names = choices.preferences === true ? {} : choices.preferences || undefined;
  const chosen = isChoosing ? names : undefined;
  useSeen(inbox, snapshot, !chosen);

  useLayoutEffect(() => {
    if (!panel.current || !bell.current) return;
    const letGo = keepPlaced(panel.current, bell.current, placement);
    return letGo;
  }, [bell, placement]);
  useLayoutEffect(() => {
    if (!panel.current) return;
    const letGo = keepFocus(panel.current);
    panel.current.focus({ preventScroll: true });
    return letGo;
  }, []);

  const toTop = () => {
    window.reset();
    panel.current?.scrollTo({ top: 0 });
  };
  const choose = (next: Tab) => {
    setTabId(next.id);
    toTop();
  };
  const choosePreferences = (next: boolean) => {
    setChoosing(next);
    toTop();
  };
  const undone = (ids: readonly string[]) => focus.goBackTo(ids.at(-1));
  const press = (event: KeyboardEvent<HTMLElement>) => {
    focus.cancel();
    if (chosen) return;
    const id = rowAround(event.target)?.dataset["id"];
    const at = rows.findIndex((row) => row.id === id);
    const next = nextRow(event, at, rows.length, window.pageFrom);
    const row = rows[at];
    if (next !== undefined) {
      event.preventDefault();
      focus.go(next);
    } else if (isUndo(event)) {
      event.preventDefault();
      undone(undo.undo());
    } else if (event.key === "Delete" && row && !isTyping(event)) {
      deeds.putAway("remove", row);
    }
  };

  const isTabbed = Boolean(choices.tabs);
  return (
    <DeedsContext.Provider value={deeds}>
      <div
        ref={panel}
        id={id}
        popover="manual"
        className="doorbell-panel"
        role="dialog"
        {...(slots.header && !chosen ? { "aria-label": labels.title } : { "aria-labelledby": headingId })}
        tabIndex={-1}
        onKeyDown={press}
        onPointerDown={focus.cancel}
        onScroll={() => {
          window.onScroll();
          news.onScroll();
        }}
      >
        {chosen ? (
          // Once it is loaded anew it may be somebody else's.
          <Preferences
            key={String(snapshot.isLoaded)}
            inbox={inbox}
            names={chosen}
            id={headingId}
            back={() => choosePreferences(false)}
          />
        ) : (
          <>
            <div className="doorbell-top">
              <Head
                inbox={inbox}
                tab={tab}
                unreadCount={snapshot.unreadCount}
                isEmpty={rows.length === 0}
                id={headingId}
                openPreferences={names && (() => choosePreferences(true))}
                isBack={isChoosing === false}
                close={close}
              />
              {isTabbed && (
                <TabList
                  inbox={inbox}
                  snapshot={snapshot}
                  tabs={tabs}
                  chosen={tab}
                  panelId={listId}
                  choose={choose}
                />
              )}
              {news.count > 0 && (
                <button type="button" className="doorbell-news" onClick={() => focus.go(0)}>
                  {labels.news(news.count)}
                </button>
              )}
            </div>
            <UndoBar undo={undo} onUndone={undone} />
            <Standing inbox={inbox} snapshot={snapshot} />
            <div {...(isTabbed && { id: listId, role: "tabpanel", "aria-labelledby": `${listId}-${tab.id}` })}>
              <Listing
                tab={tab}
                view={view}
                rows={rows}
                window={window}
                isFailed={snapshot.status === "failed"}
              />
            </div>
          </>
        )}
      </div>
    </DeedsContext.Provider>
  );
}

/** What is in the list of a page that is shown is seen, also what comes while it is open. */
function useSeen(inbox: InboxClient, snapshot: Snapshot, isList: boolean): void {
  const { notifications, unseenCount, status } = snapshot;
  useEffect(() => {
    const isLookedAt = isList && document.visibilityState !== "hidden" && unseenCount > 0;
    if (isLookedAt) void inbox.markSeen().catch(() => undefined);
  }, [inbox, notifications, unseenCount, status, isList]);
}
