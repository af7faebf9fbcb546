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

/** A log of what comes: each is an element of its own, so that all of several are said,
 * and one that has the text of the last too. */
export function Announcer({ inbox, text }: AnnouncerProps) {
  const [said, setSaid] = useState<{ key: number; notification: Notification }[]>([]);
  useEffect(() => {
    let key = 0;
    setSaid([]);
    return inbox.onNotification((notifications) => {
      const added = notifications.map((notification) => ({ key: (key += 1), notification }));
      setSaid((before) => [...before, ...added].slice(-MOST_SAID));
    });
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
