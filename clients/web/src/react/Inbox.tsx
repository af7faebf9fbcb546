// A bell with a badge, and the list behind it.

import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";
import type { InboxClient } from "../client.js";
import { Announcer } from "./Announcer.js";
import type { ItemChoices } from "./Item.js";
import { ENGLISH, type Labels } from "./labels.js";
import { Panel } from "./Panel.js";
import { useInbox } from "./useInbox.js";

/** What the component is given. */
export interface InboxProps extends ItemChoices {
  readonly inbox: InboxClient;
  /** Whose inbox it is, see `start`: nothing of another user is shown. */
  readonly user?: string | undefined;
  /** Texts in place of the English ones. */
  readonly labels?: Partial<Labels> | undefined;
  /** Added to the outermost element's. */
  readonly className?: string | undefined;
  /** The look; as the system says where it is absent. */
  readonly theme?: "light" | "dark" | undefined;
}

/** A bell with its inbox. Styled by `@doorbell/web/style.css`, or by your own. */
export function Inbox({ inbox, user, className, theme, ...props }: InboxProps) {
  const snapshot = useInbox(inbox, user);
  const labels = { ...ENGLISH, ...props.labels };
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const bell = useRef<HTMLButtonElement>(null);
  const panel = useId();

  useEffect(() => {
    if (!isOpen) return;
    const closeOutside = (event: Event) => {
      const isInside = root.current && event.composedPath().includes(root.current);
      if (!isInside) setOpen(false);
    };
    document.addEventListener("pointerdown", closeOutside);
    document.addEventListener("focusin", closeOutside);
    return () => {
      document.removeEventListener("pointerdown", closeOutside);
      document.removeEventListener("focusin", closeOutside);
    };
  }, [isOpen]);

  const closeByKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !isOpen) return;
    event.stopPropagation();
    setOpen(false);
    bell.current?.focus();
  };

  return (
    <div
      ref={root}
      className={`doorbell ${className ?? ""}`}
      data-theme={theme}
      onKeyDown={closeByKey}
    >
      <button
        ref={bell}
        type="button"
        className="doorbell-bell"
        aria-label={labels.bell(snapshot.unseenCount)}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? panel : undefined}
        onClick={() => setOpen(!isOpen)}
      >
        <BellIcon />
        {snapshot.unseenCount > 0 && (
          <span className="doorbell-badge" aria-hidden="true">
            {labels.badge(snapshot.unseenCount)}
          </span>
        )}
      </button>
      <Announcer inbox={inbox} text={labels.announce} />
      {isOpen && (
        <Panel {...props} id={panel} bell={bell} inbox={inbox} snapshot={snapshot} labels={labels} />
      )}
    </div>
  );
}

function BellIcon() {
  return (
    <svg viewBox="0 0 24 24" width="1.4em" height="1.4em" aria-hidden="true" fill="none">
      <path
        d="M6 16v-5a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
