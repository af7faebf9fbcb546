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

/** What marks ask of their owner. */
export interface Clerk {
  readonly random: () => number;
  /** Tells the service; answers with the revision. */
  send(ids: readonly string[]): Promise<number>;
  /** Keeps what is yet to be sent. */
  keep(ids: readonly string[]): void;
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
  readonly call: Call;
  readonly readAt: string;
  /** The one of the service's answer, once there is one. */
  revision?: number;
  /** The service was away. */
  isHeld?: boolean;
  /** The row as it is, and as it is shown. */
  row?: Notification;
  shown?: Notification;
}

/** The marks of one user's inbox. */
export class Marks {
  readonly #clerk: Clerk;
  /** By the notification's id. */
  readonly #marks = new Map<string, Mark>();
  readonly #backoff: Backoff;
  #isSending = false;
  #waiting: AbortController | undefined;
  #hasEnded = false;
  #list: { readonly rows: readonly Notification[]; shown: readonly Notification[] } | undefined;

  /** With those that were held before. */
  constructor(clerk: Clerk, held: readonly string[]) {
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
  async mark(ids: readonly string[]): Promise<void> {
    const others = ids.map((id) => this.#marks.get(id)?.call.settled);
    const added = [...new Set(ids)].filter((id) => !this.#marks.has(id));
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
  shown(rows: readonly Notification[]): readonly Notification[] {
    if (this.#list?.rows === rows) return this.#list.shown;
    const shown = rows.map((row) => {
      const mark = this.#marks.get(row.id);
      if (!mark || row.readAt) return row;
      if (mark.row !== row || !mark.shown) mark.shown = { ...row, readAt: mark.readAt };
      mark.row = row;
      return mark.shown;
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

  #add(ids: readonly string[], isHeld: boolean): Call {
    let settle: Call["settle"] = () => undefined;
    const settled = new Promise<void>((resolve, reject) => {
      settle = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Who marks hears it by another way.
    settled.catch(() => undefined);
    const call = { settle, settled };
    if (isHeld || ids.length === 0) settle();
    const readAt = new Date().toISOString();
    for (const id of ids) this.#marks.set(id, { call, readAt, isHeld });
    this.#list = undefined;
    return call;
  }

  #delete(id: string): void {
    this.#marks.delete(id);
    this.#list = undefined;
  }

  #unsent(): string[] {
    return [...this.#marks].filter(([, mark]) => mark.revision === undefined).map(([id]) => id);
  }

  /** Sends what is to be sent, one call after the other. */
  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      for (;;) {
        const [first, ...rest] = this.#unsent();
        const call = first === undefined ? undefined : this.#marks.get(first)?.call;
        if (first === undefined || !call || this.#hasEnded) return;
        // Of one call, so that what is wrong with it is not another's fault.
        const alike = rest.filter((id) => this.#marks.get(id)?.call === call);
        const isGoing = await this.#sendSome(call, [first, ...alike]);
        if (!isGoing) return;
      }
    } finally {
      this.#isSending = false;
    }
  }

  /** Answers whether to go on. */
  async #sendSome(call: Call, ids: readonly string[]): Promise<boolean> {
    const batch = ids.slice(0, MOST_MARKED);
    try {
      const revision = await this.#clerk.send(batch);
      if (this.#hasEnded) return false;
      this.#backoff.reset();
      for (const id of batch) {
        const mark = this.#marks.get(id);
        if (mark) mark.revision = revision;
      }
      if (batch.length === ids.length) call.settle();
      this.#clerk.keep(this.#unsent());
      this.#clerk.changed();
      return true;
    } catch (error) {
      if (this.#hasEnded) return false;
      const isRefused = cureOf(error) === "none";
      for (const id of isRefused ? ids : this.#unsent()) {
        const mark = this.#marks.get(id);
        if (isRefused) this.#delete(id);
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
