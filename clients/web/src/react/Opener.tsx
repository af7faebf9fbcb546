import type { ReactNode } from "react";
import { safeLink } from "../link.js";
import type { Notification } from "../notification.js";
import { useDeeds } from "./bell.js";

interface OpenerProps {
  readonly notification: Notification;
  /** Whether its link can be dragged; not where a finger sweeps it aside. */
  readonly draggable?: boolean;
  readonly children: ReactNode;
}

/** What a notification is chosen by: a link where it leads somewhere, else a button. */
export function Opener({ notification, draggable, children }: OpenerProps) {
  const { choose } = useDeeds();
  const href = safeLink(notification.actionUrl);
  if (href === undefined) {
    return (
      <button
        type="button"
        className="doorbell-open"
        onClick={(event) => choose(notification, event, href)}
      >
        {children}
      </button>
    );
  }
  return (
    <a
      className="doorbell-open"
      href={href}
      draggable={draggable}
      onClick={(event) => choose(notification, event, href)}
    >
      {children}
    </a>
  );
}
