import { safeLink } from "../link.js";
import type { Notification } from "../notification.js";
import { useDeeds } from "./bell.js";

/** What can be done about a notification, as links. */
export function Actions({ notification }: { readonly notification: Notification }) {
  const { act } = useDeeds();
  const links = (notification.actions ?? []).flatMap((action, at) => {
    const href = safeLink(action.url);
    if (href === undefined) return [];
    return (
      <a
        key={at}
        className="doorbell-action"
        data-primary={action.isPrimary || undefined}
        dir="auto"
        href={href}
        draggable={false}
        onClick={(event) => act(action, notification, event, href)}
      >
        {action.label}
      </a>
    );
  });
  return links.length > 0 && <div className="doorbell-actions">{links}</div>;
}
