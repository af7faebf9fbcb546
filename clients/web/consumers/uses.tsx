// Natural use of what the package gives, for the compilers.

import { createInbox, type InboxClient, type Notification, type Snapshot } from "@doorbell/web";
import { ENGLISH, Inbox, useInbox, type InboxProps, type Labels } from "@doorbell/web/react";
import "@doorbell/web/style.css";
import { useSyncExternalStore } from "react";

const inbox: InboxClient = createInbox({
  baseUrl: "https://doorbell.example.com",
  getToken: async () => "",
  user: undefined,
});
const { getSnapshot, markAllRead, markRead, markSeen, subscribe } = inbox;

const kept: string = JSON.stringify(getSnapshot());
const restored = JSON.parse(kept) as Snapshot;
export const times: Date[] = restored.notifications.map(({ createdAt }) => new Date(createdAt));
export const of = ({ data }: Notification): unknown => data?.["plan"];
export const end: () => void = subscribe(({ unseenCount }) => unseenCount.toFixed());
export const look = async (): Promise<void> => markSeen().then(markAllRead);

const labels: Partial<Labels> = { ...ENGLISH, title: "Neues" };
const props: InboxProps = { inbox, labels, locale: "de", user: "alice" };

export function Bell() {
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
  const { status } = useInbox(inbox, "alice");
  const [first] = snapshot.notifications;
  return (
    <>
      <Inbox {...props} onSelect={({ id }) => void markRead([id])} />
      <output>{`${status} ${first?.title ?? ""}`}</output>
    </>
  );
}
