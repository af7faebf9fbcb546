// Says what is new to who does not see it.

import { useEffect, useState } from "react";
import type { InboxClient } from "../client.js";
import type { Notification } from "../notification.js";

/** What was said stays for so long after the last: screen readers need a moment. */
const SAID_MS = 5_000;
/** And no more than so many stay, however fast they come. */
const MOST_SAID = 100;

interface AnnouncerProps {
  readonly inbox: InboxClient;
  readonly text: (notification: Notification) => string;
}

/** The announcers of an inbox: a page may have a bell in two places, and toasts, and only
 * the first one speaks. */
const speakers = new WeakMap<InboxClient, Set<object>>();

/** A log of what comes: each is an element of its own, so that all of several are said,
 * and one that has the text of the last too. */
export function Announcer({ inbox, text }: AnnouncerProps) {
  const [said, setSaid] = useState<{ key: number; notification: Notification }[]>([]);
  useEffect(() => {
    let key = 0;
    const me = {};
    const all = speakers.get(inbox) ?? new Set();
    speakers.set(inbox, all.add(me));
    setSaid([]);
    const forget = inbox.onNotification((notifications) => {
      if (all.values().next().value !== me) return;
      const added = notifications.map((notification) => ({ key: (key += 1), notification }));
      setSaid((before) => [...before, ...added].slice(-MOST_SAID));
    });
    return () => {
      forget();
      all.delete(me);
    };
  }, [inbox]);
  useEffect(() => {
    if (said.length === 0) return;
    const clearing = setTimeout(() => setSaid([]), SAID_MS);
    return () => clearTimeout(clearing);
  }, [said]);
  return (
    <div className="doorbell-live" role="log" aria-live="polite">
      {said.map(({ key, notification }) => (
        <p key={key}>{text(notification)}</p>
      ))}
    </div>
  );
}
