// A bell with a badge, and the list behind it.

import { useEffect, useId, useMemo, useRef, useState } from "react";
import type { InboxClient } from "../client.js";
import { Announcer } from "./Announcer.js";
import { BellContext, useSame } from "./bell.js";
import { Icon } from "./Icon.js";
import { ENGLISH, type Labels } from "./labels.js";
import { Panel, type PanelChoices } from "./Panel.js";
import { filled, type Slots } from "./slots.js";
import { prepareTimes } from "./time.js";
import { useClosing } from "./useClosing.js";
import { useInbox } from "./useInbox.js";

/** What the component is given. */
export interface InboxProps extends PanelChoices {
  readonly inbox: InboxClient;
  /** Whose inbox it is, see `start`: nothing of another user is shown. */
  readonly user?: string | undefined;
  /** Whether the list is open, where the page says so; else the bell does. */
  readonly open?: boolean | undefined;
  /** Called when the list is to be opened or closed. */
  readonly onOpenChange?: ((open: boolean) => void) | undefined;
  /** For times; the browser's language where it is absent. */
  readonly locale?: string | undefined;
  /** Texts in place of the English ones. */
  readonly labels?: Partial<Labels> | undefined;
  /** Parts of the page's own in place of those of the bell. */
  readonly slots?: Slots | undefined;
  /** The outermost element's. A button elsewhere whose `aria-controls` names it may open and
   * close the list. */
  readonly id?: string | undefined;
  /** Added to the outermost element's. */
  readonly className?: string | undefined;
  /** The look; as the system says where it is absent. */
  readonly theme?: "light" | "dark" | undefined;
}

const NO_SLOTS: Slots = {};

/** A bell with its inbox. Styled by `@doorbell/web/style.css`, or by your own. */
export function Inbox({ inbox, user, id, className, theme, locale, open, onOpenChange, ...props }: InboxProps) {
  const snapshot = useInbox(inbox, user);
  const labels = useSame({ ...ENGLISH, ...props.labels });
  const slots = useSame(props.slots ?? NO_SLOTS);
  const shared = useMemo(() => ({ labels, slots, locale }), [labels, slots, locale]);
  const [wasOpened, setOpened] = useState(false);
  const isOpen = open ?? wasOpened;
  const root = useRef<HTMLDivElement>(null);
  const bell = useRef<HTMLButtonElement>(null);
  const panel = useId();
  const { unseenCount } = snapshot;

  const setOpen = (next: boolean) => {
    setOpened(next);
    onOpenChange?.(next);
  };
  useEffect(() => prepareTimes(locale), [locale]);
  const closing = useClosing(root, bell, isOpen, () => setOpen(false));

  return (
    <BellContext.Provider value={shared}>
      <div ref={root} id={id} className={`doorbell ${className ?? ""}`} data-theme={theme} {...closing}>
        <button
          ref={bell}
          type="button"
          className="doorbell-bell"
          aria-label={labels.bell(unseenCount)}
          aria-haspopup="dialog"
          aria-expanded={isOpen}
          aria-controls={isOpen ? panel : undefined}
          onClick={() => setOpen(!isOpen)}
        >
          {filled(
            slots.bell?.({ unseenCount, isOpen }),
            <>
              <Icon name="bell" />
              {unseenCount > 0 && (
                <span className="doorbell-badge" aria-hidden="true">
                  {labels.badge(unseenCount)}
                </span>
              )}
            </>,
          )}
        </button>
        <Announcer inbox={inbox} text={labels.announce} />
        {isOpen && (
          <Panel
            {...props}
            key={user}
            id={panel}
            bell={bell}
            inbox={inbox}
            snapshot={snapshot}
            close={() => {
              setOpen(false);
              bell.current?.focus();
            }}
          />
        )}
      </div>
    </BellContext.Provider>
  );
}
