// What was read here, and what the service has yet to know of it.
//
// Promises: a mark shows at once; it is sent in the order in which marks were made, and
// where the service is away it is held, kept for the next page load, and sent later. Only
// a refusal takes it back.

import { Backoff } from "./backoff.js";
import type { State } from "./fold.js";
import type { Notification } from "./notification.js";
import { cureOf, retryDelayOf } from "./problem.js";
import { sleep } from "./wait.js";

/** As many as one call takes. */
const MOST_MARKED = 500;
/** More are not held. */
const MOST_HELD = 5000;

/** All whose last change is not above a revision, which was learned in an epoch. */
export interface Through {
  readonly revision: number;
  readonly epoch: string;
}

/** What is marked: one notification, by its id, or all that was shown. */
export type Held = string | Through;

/** What marks ask of their owner. */
export interface Clerk {
  readonly random: () => number;
  /** Tells the service; answers with the revision. */
  send(what: readonly string[] | Through): Promise<number>;
  /** Keeps what is yet to be sent. */
  keep(held: readonly Held[]): void;
  /** Whether it is worth to go on trying. */
  isActive(): boolean;
  changed(): void;
}

/** Marks of one call, which succeed or fail together. */
interface Call {
  readonly settle: (error?: unknown) => void;
  readonly settled: Promise<void>;
}

/** A mark of which the stream does not know yet. */
interface Mark {
  readonly what: Held;
  readonly call: Call;
  readonly readAt: string;
  /** The one of the service's answer, once there is one. */
  revision?: number;
  /** The service was away. */
  isHeld?: boolean;
  /** Rows as they are shown, by what they are. */
  readonly shown: WeakMap<Notification, Notification>;
}

/** The marks of one user's inbox. */
export class Marks {
  readonly #clerk: Clerk;
  /** By the notification's id, or what names all. */
  readonly #marks = new Map<string, Mark>();
  readonly #backoff: Backoff;
  #isSending = false;
  #waiting: AbortController | undefined;
  #hasEnded = false;
  #list: { readonly rows: readonly Notification[]; shown: readonly Notification[] } | undefined;

  /** With those that were held before. */
  constructor(clerk: Clerk, held: readonly Held[]) {
    this.#clerk = clerk;
    this.#backoff = new Backoff(clerk.random);
    this.#add(held, true);
    clerk.keep(this.#unsent());
  }

  /** How many are held. */
  get held(): number {
    let count = 0;
    for (const { isHeld, revision } of this.#marks.values()) {
      if (isHeld && revision === undefined) count += 1;
    }
    return count;
  }

  /** Marks them. Resolves once the service has it or it is held; of those that are being
   * marked already it waits for the call that does so. */
  async mark(held: readonly Held[]): Promise<void> {
    const others = held.map((what) => this.#marks.get(keyOf(what))?.call.settled);
    const added = held.filter((what) => !this.#marks.has(keyOf(what)));
    if (this.#unsent().length + added.length > MOST_HELD) {
      throw new RangeError("there are too many marks that are yet to be sent");
    }
    // While the service is away a mark is held at once.
    const call = this.#add(added, this.#waiting !== undefined);
    this.#clerk.keep(this.#unsent());
    this.#clerk.changed();
    void this.#send();
    await Promise.all([call.settled, ...others]);
  }

  /** The service is there: what is held is sent now. */
  flush(): void {
    this.#waiting?.abort();
    void this.#send();
  }

  /** The rows as they are shown; the same list until something changes. */
  shown({ rows, epoch }: State): readonly Notification[] {
    if (this.#list?.rows === rows) return this.#list.shown;
    const all = [...this.#marks.values()].filter(({ what }) => isAll(what) && what.epoch === epoch);
    const shown = rows.map((row) => {
      const isIn = ({ what }: Mark) => isAll(what) && row.revision <= what.revision;
      const mark = this.#marks.get(row.id) ?? all.find(isIn);
      if (!mark || row.readAt) return row;
      const copy = mark.shown.get(row) ?? { ...row, readAt: mark.readAt };
      mark.shown.set(row, copy);
      return copy;
    });
    const isSame = shown.every((row, at) => row === rows[at]);
    this.#list = { rows, shown: isSame ? rows : shown };
    return this.#list.shown;
  }

  /** What the state has is no mark any more: the row says so itself, or is gone. */
  settle({ position = 0 }: State): void {
    for (const [id, { revision }] of this.#marks) {
      if (revision !== undefined && position >= revision) this.#delete(id);
    }
  }

  /** It is another user's inbox now, or nobody's. */
  end(): void {
    this.#hasEnded = true;
    this.#waiting?.abort();
    for (const { call } of this.#marks.values()) call.settle();
  }

  #add(held: readonly Held[], isHeld: boolean): Call {
    let settle: Call["settle"] = () => undefined;
    const settled = new Promise<void>((resolve, reject) => {
      settle = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Who marks hears it by another way.
    settled.catch(() => undefined);
    const call = { settle, settled };
    if (isHeld || held.length === 0) settle();
    const readAt = new Date().toISOString();
    for (const what of held) {
      this.#marks.set(keyOf(what), { what, call, readAt, isHeld, shown: new WeakMap() });
    }
    this.#list = undefined;
    return call;
  }

  #delete(id: string): void {
    this.#marks.delete(id);
    this.#list = undefined;
  }

  #unsent(): Held[] {
    const marks = [...this.#marks.values()];
    return marks.filter(({ revision }) => revision === undefined).map(({ what }) => what);
  }

  /** Sends what is to be sent, one call after the other. */
  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      for (;;) {
        const unsent = this.#unsent();
        const [first] = unsent;
        const callOf = (what: Held) => this.#marks.get(keyOf(what))?.call;
        const call = first === undefined ? undefined : callOf(first);
        if (first === undefined || !call || this.#hasEnded) return;
        // Of one call, so that what is wrong with it is not another's fault.
        const ids = unsent.filter((what) => !isAll(what) && callOf(what) === call);
        const isGoing = await this.#sendSome(call, isAll(first) ? [first] : ids);
        if (!isGoing) return;
      }
    } finally {
      this.#isSending = false;
    }
  }

  /** Answers whether to go on. */
  async #sendSome(call: Call, held: readonly Held[]): Promise<boolean> {
    const batch = held.slice(0, MOST_MARKED);
    try {
      const revision = await this.#clerk.send(batch.find(isAll) ?? batch.filter(isId));
      if (this.#hasEnded) return false;
      this.#backoff.reset();
      for (const what of batch) {
        const mark = this.#marks.get(keyOf(what));
        if (mark) mark.revision = revision;
      }
      if (batch.length === held.length) call.settle();
      this.#clerk.keep(this.#unsent());
      this.#clerk.changed();
      return true;
    } catch (error) {
      if (this.#hasEnded) return false;
      const isRefused = cureOf(error) === "none";
      for (const what of isRefused ? held : this.#unsent()) {
        const mark = this.#marks.get(keyOf(what));
        if (isRefused) this.#delete(keyOf(what));
        else if (mark) mark.isHeld = true;
        mark?.call.settle(isRefused ? error : undefined);
      }
      this.#clerk.keep(this.#unsent());
      this.#clerk.changed();
      if (isRefused) return true;
      this.#waiting = new AbortController();
      await sleep(retryDelayOf(error) + this.#backoff.next(), this.#waiting.signal);
      this.#waiting = undefined;
      return !this.#hasEnded && this.#clerk.isActive();
    }
  }
}

function isAll(what: Held): what is Through {
  return typeof what !== "string";
}

function isId(what: Held): what is string {
  return typeof what === "string";
}

function keyOf(what: Held): string {
  return isAll(what) ? `all ${what.revision} ${what.epoch}` : what;
}
