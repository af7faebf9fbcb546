// Natural use of what the package gives, for the compilers.

import {
  createInbox,
  desktopNotifications,
  ringSound,
  titleBadge,
  type Announce,
  type Arrival,
  type Desktop,
  type InboxClient,
  type InboxView,
  type Notification,
  type Preference,
  type PreferenceChoice,
  type Question,
  type Selection,
  type Snapshot,
  type TypeCounts,
} from "@doorbell/web";
import {
  ENGLISH,
  Inbox,
  Toasts,
  useInbox,
  type InboxProps,
  type Labels,
  type Placement,
  type Slots,
  type Tab,
  type TypeNames,
} from "@doorbell/web/react";
import "@doorbell/web/style.css";
import { useSyncExternalStore } from "react";

const inbox: InboxClient = createInbox({
  baseUrl: "https://doorbell.example.com",
  getToken: async () => "",
  user: undefined,
});
const { getSnapshot, markAllRead, markRead, markSeen, subscribe } = inbox;
const { countTypes, onNotification, unarchive, view } = inbox;
const { preferences, updatePreferences } = inbox;

const kept: string = JSON.stringify(getSnapshot());
const restored = JSON.parse(kept) as Snapshot;
export const times: Date[] = restored.notifications.map(({ createdAt }) => new Date(createdAt));
export const of = ({ data }: Notification): unknown => data?.["plan"];
onNotification(([first], how: Arrival) => console.log(first?.actions?.[0]?.label, how));
const announce: Announce = (rows, _, leads) => leads && console.log(rows.length);
export const ends: (() => void)[] = [titleBadge(inbox), ringSound(inbox, "/ding.mp3"), onNotification(announce)];
export const desktop: Desktop = desktopNotifications(inbox, { navigate: (url) => console.log(url) });
export const end: () => void = subscribe(({ unseenCount }) => unseenCount.toFixed());
export const look = async (): Promise<void> => markSeen().then(() => markAllRead());
const question: Question = { show: "archived", types: ["comment"] };
const archive: InboxView = view(question);
export const counts: TypeCounts = countTypes(["comment"]).getSnapshot();
export const back = async (which: Selection): Promise<void> => unarchive(which);
const choices: PreferenceChoice[] = [{ type: "tips", on: false }, { type: "digest" }];
export const wanted = async (): Promise<readonly Preference[]> => preferences().then(() => updatePreferences(choices));

const names: TypeNames = { comment: "Comments" };
const labels: Partial<Labels> = { ...ENGLISH, title: "Neues" };
const own: Tab = { id: "own", label: "Own", types: ["comment"], show: "unread" };
const placement: Placement = "after";
const slots: Slots = {
  bell: ({ unseenCount, isOpen }) => `${unseenCount}${isOpen}`,
  header: ({ unreadCount, markAllRead, archiveAll, openPreferences, close }) => (
    <>
      {unreadCount} <button onClick={markAllRead} /> <button onClick={archiveAll} />
      <button onClick={openPreferences} /> <button onClick={close} />
    </>
  ),
  row: ({ title, body }) => <b>{title + (body ?? "")}</b>,
  image: ({ imageUrl }) => (imageUrl === undefined ? null : undefined),
  actions: ({ actions }) => actions?.length,
  empty: (tab) => tab,
  loading: () => null,
  error: ({ problem, retry }) => <button onClick={retry}>{problem?.message}</button>,
};
const props: InboxProps = {
  inbox,
  labels,
  locale: "de",
  user: "alice",
  slots,
  placement,
  tabs: ["all", own],
  preferences: names,
  open: true,
  onOpenChange: (open) => console.log(open),
  closeOnSelect: false,
  navigate: (url, { id }) => console.log(url, id),
  onAction: ({ label }, { id }, event) => console.log(label, id, event.defaultPrevented),
};

export function Bell() {
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
  const { status } = useInbox(inbox, "alice");
  const { hasMore } = useSyncExternalStore(archive.subscribe, archive.getSnapshot);
  const [first] = snapshot.notifications;
  return (
    <>
      <Inbox
        {...props}
        onSelect={({ id }, event) => {
          event.preventDefault();
          void markRead([id]);
        }}
      />
      <Toasts inbox={inbox} user="alice" most={2} navigate={(url, { id }) => console.log(url, id)} />
      <output>{`${status} ${first?.title ?? ""} ${hasMore}`}</output>
    </>
  );
}
