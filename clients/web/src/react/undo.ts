// What was put away a moment ago, and can be brought back.
//
// Promises: what is archived is so at once; what is removed is hidden at once and removed
// only when its time is over, or `settle` is called. Of one kind several in a row are
// undone together; another kind settles what was before.

import type { InboxClient } from "../client.js";
import { Listeners } from "../listeners.js";

/** What takes a row out of its list. */
export type PutAway = "archive" | "unarchive" | "remove";

/** What can be undone. */
export interface Undoable {
  readonly verb: PutAway;
  /** In the order in which it was done. */
  readonly ids: readonly string[];
}

const NONE: ReadonlySet<string> = new Set();
const ignore = () => undefined;

export class Undo {
  readonly #inbox: InboxClient;
  readonly #listeners = new Listeners<[]>();
  #undoable: Undoable | undefined;
  #hidden = NONE;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isHeld = false;
  /** How long something can be undone, in milliseconds. */
  duration = 6000;

  constructor(inbox: InboxClient) {
    this.#inbox = inbox;
  }

  readonly subscribe = (listener: () => void): (() => void) => this.#listeners.add(listener);

  /** What can be undone now: the same object until it changes. */
  readonly undoable = (): Undoable | undefined => this.#undoable;

  /** What is shown as removed, and is not yet: the same object until it changes. */
  readonly hidden = (): ReadonlySet<string> => this.#hidden;

  putAway(verb: PutAway, id: string): void {
    if (this.#undoable?.verb !== verb) this.settle();
    this.#become({ verb, ids: [...(this.#undoable?.ids ?? []), id] });
    if (verb !== "remove") void this.#inbox[verb]([id]).catch(ignore);
    this.#wait();
  }

  /** Takes it back; answers with the ids of what is there again. */
  undo(): readonly string[] {
    const { verb, ids = [] } = this.#undoable ?? {};
    this.#become(undefined);
    if (verb === "archive") void this.#inbox.unarchive(ids).catch(ignore);
    if (verb === "unarchive") void this.#inbox.archive(ids).catch(ignore);
    return ids;
  }

  /** While somebody is about to undo it, its time does not run out. */
  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    this.#wait();
  }

  /** It cannot be undone any more. */
  settle(): void {
    const { verb, ids = [] } = this.#undoable ?? {};
    if (verb === "remove") void this.#inbox.remove(ids).catch(ignore);
    this.#become(undefined);
  }

  #become(undoable: Undoable | undefined): void {
    clearTimeout(this.#timer);
    if (undoable === undefined) this.#isHeld = false;
    if (undoable === this.#undoable) return;
    this.#undoable = undoable;
    this.#hidden = undoable?.verb === "remove" ? new Set(undoable.ids) : NONE;
    this.#listeners.tell();
  }

  #wait(): void {
    clearTimeout(this.#timer);
    if (this.#isHeld || !this.#undoable) return;
    this.#timer = setTimeout(() => this.settle(), this.duration);
  }
}
