import type { ReactNode } from "react";
import type { Notification } from "../notification.js";
import { useBell, useDeeds } from "./bell.js";
import { Icon } from "./Icon.js";

/** What can be done to a notification: by who points at it, or has the focus there. */
export function Verbs({ notification }: { readonly notification: Notification }) {
  const { labels } = useBell();
  const { toggleRead, putAway } = useDeeds();
  const { title, readAt, archivedAt } = notification;
  const button = (name: string, label: string, icon: ReactNode, act: () => void) => (
    <button
      type="button"
      className={`doorbell-verb doorbell-${name}`}
      aria-label={`${label}: ${title}`}
      title={label}
      onClick={act}
    >
      {icon}
    </button>
  );
  const away = archivedAt ? "unarchive" : "archive";
  return (
    <div className="doorbell-verbs">
      {button(away, labels[away], <Icon name={away} />, () => putAway(away, notification))}
      {button("remove", labels.remove, <Icon name="remove" />, () => putAway("remove", notification))}
      {!archivedAt &&
        button(
          "mark",
          readAt ? labels.markUnread : labels.markRead,
          readAt ? <Icon name="asUnread" /> : <span className="doorbell-dot" />,
          () => toggleRead(notification),
        )}
    </div>
  );
}
