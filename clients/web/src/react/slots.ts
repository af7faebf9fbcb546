// What a page may put in place of a part of the bell.

import type { ReactNode } from "react";
import type { Notification } from "../notification.js";
import type { Problem } from "../snapshot.js";

/** The parts that can be another's. Each is called while the bell renders, so it uses no
 * hooks, but what it answers with may be a component that does. A row is rendered again
 * when one of these is another function: keep them outside of your component. What answers
 * `undefined` leaves the part as it is, `null` shows nothing. */
export interface Slots {
  /** What is in the button: the icon and the badge. */
  readonly bell?: ((bell: BellSlot) => ReactNode) | undefined;
  /** The title, the count and the buttons above the list. */
  readonly header?: ((header: HeaderSlot) => ReactNode) | undefined;
  /** What a choice is made by: the image, title, body and time of a notification. Nothing
   * that can be pressed goes in here, it is inside of a button or link. */
  readonly row?: ((notification: Notification) => ReactNode) | undefined;
  readonly image?: ((notification: Notification) => ReactNode) | undefined;
  /** What is below its text: the links of its `actions`. */
  readonly actions?: ((notification: Notification) => ReactNode) | undefined;
  readonly empty?: ((tab: string) => ReactNode) | undefined;
  readonly loading?: (() => ReactNode) | undefined;
  /** What is said where the service does not allow the inbox. */
  readonly error?: ((error: ErrorSlot) => ReactNode) | undefined;
}

export interface BellSlot {
  readonly unseenCount: number;
  readonly isOpen: boolean;
}

export interface HeaderSlot {
  readonly unreadCount: number;
  /** Those of the tab that is shown; nothing where it shows what is archived. */
  readonly markAllRead: (() => void) | undefined;
  readonly archiveAll: (() => void) | undefined;
  /** Shows the preferences; nothing where the bell has none. */
  readonly openPreferences: (() => void) | undefined;
  readonly close: () => void;
}

export interface ErrorSlot {
  readonly problem: Problem | undefined;
  readonly retry: () => void;
}

/** What a slot answers, or what is there without it. */
export function filled(answer: ReactNode, otherwise: ReactNode): ReactNode {
  return answer === undefined ? otherwise : answer;
}
