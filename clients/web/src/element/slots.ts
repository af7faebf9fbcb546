// Parts of the page's own in the element: nodes and texts in place of React's.

import type { Notification } from "../notification.js";
import type { BellSlot, ErrorSlot, HeaderSlot } from "../react/slots.js";

/** What is shown in place of a part: `null` shows nothing, `undefined` leaves the part as it
 * is. A node is moved into the element, so it is another one for each notification. */
export type SlotAnswer = Node | string | number | null | undefined;

/** The parts that can be another's, see the slots of the React bell. */
export interface ElementSlots {
  readonly bell?: ((bell: BellSlot) => SlotAnswer) | undefined;
  readonly header?: ((header: HeaderSlot) => SlotAnswer) | undefined;
  /** Nothing that can be pressed goes in here, it is inside of a button or link. */
  readonly row?: ((notification: Notification) => SlotAnswer) | undefined;
  readonly image?: ((notification: Notification) => SlotAnswer) | undefined;
  readonly actions?: ((notification: Notification) => SlotAnswer) | undefined;
  readonly empty?: ((tab: string) => SlotAnswer) | undefined;
  readonly loading?: (() => SlotAnswer) | undefined;
  readonly error?: ((error: ErrorSlot) => SlotAnswer) | undefined;
}
