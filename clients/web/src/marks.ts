// What was done here to rows, and the service has yet to know of it.
//
// Promises: a mark shows at once, in every list; marks are sent in the order in which they
// were made, and where the service is away they are held, kept for the next page load, and
// sent later. Only a refusal takes one back.

import { Backoff } from "./backoff.js";
import type { State } from "./fold.js";
import type { About, Notification } from "./notification.js";
import { cureOf, retryDelayOf } from "./problem.js";
import { isAbout, isOfType } from "./question.js";
import { VERBS, type Verb } from "./verbs.js";
import { sleep } from "./wait.js";

/** As many as one call takes. */
const MOST_MARKED = 500;
/** More are not held. */
const MOST_HELD = 5000;

/** All whose last change is not above a revision, which was learned in an epoch. */
export interface Through {
  readonly revision: number;
  readonly epoch: string;
  /** Only of these types. */
  readonly types?: readonly string[];
}

/** What is marked: one notification, by its id, what is about a thing, or all that was
 * shown. */
export type Marked = string | { readonly about: About } | { readonly through: Through };

/** What one call is of. */
export type Selected = readonly string[] | Exclude<Marked, string>;

/** What is to be sent. */
export interface Held {
  readonly verb: Verb;
  readonly what: Marked;
}

/** What marks ask of their owner. */
export interface Clerk {
  readonly random: () => number;
  /** Tells the service; answers with the revision. */
  send(verb: Verb, what: Selected): Promise<number>;
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
interface Mark extends Held {
  /** Of two the higher one was made later. */
  readonly number: number;
  readonly call: Call;
  readonly madeAt: string;
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
  /** In the order in which they were made. */
  readonly #marks = new Set<Mark>();
  /** Those of one notification, by its id. */
  readonly #named = new Map<string, Mark[]>();
  /** The others, which may be of any. */
  #wide: Mark[] = [];
  #number = 0;
  /** The life of the store that the rows are of. */
  #epoch = "";
  readonly #backoff: Backoff;
  #isSending = false;
  #waiting: AbortController | undefined;
  #hasEnded = false;

  /** With those that were held before. */
  constructor(clerk: Clerk, held: readonly Held[]) {
    this.#clerk = clerk;
    this.#backoff = new Backoff(clerk.random);
    this.#add(held, true);
    this.#keep();
  }

  /** How many are held. */
  get held(): number {
    let count = 0;
    for (const { isHeld, revision } of this.#marks) {
      if (isHeld && revision === undefined) count += 1;
    }
    return count;
  }

  /** Whether every row is shown as it is. */
  get isEmpty(): boolean {
    return this.#marks.size === 0;
  }

  /** Marks them. Resolves once the service has it or it is held; of those that are being
   * marked already it waits for the call that does so. `find` has the rows that are known,
   * as they are: where nothing would change nothing is sent. */
  async mark(
    verb: Verb,
    what: readonly Marked[],
    find: (id: string) => Notification | undefined,
  ): Promise<void> {
    const others: Promise<void>[] = [];
    const added: Held[] = [];
    for (const marked of what) {
      const last = this.#lastOf(marked);
      const row = typeof marked === "string" ? find(marked) : undefined;
      const shown = row && this.shown(row);
      const isDone = row && !(shown && VERBS[verb].changes(shown, true));
      // What was answered may have changed since.
      const isAgain = last?.verb === verb && (isDone ?? last.revision === undefined);
      if (isAgain) others.push(last.call.settled);
      else if (!isDone) added.push({ verb, what: marked });
    }
    if (this.#unsent().length + added.length > MOST_HELD) {
      throw new RangeError("there are too many marks that are yet to be sent");
    }
    // While the service is away a mark is held at once.
    const call = this.#add(added, this.#waiting !== undefined);
    this.#keep();
    this.#clerk.changed();
    void this.#send();
    await Promise.all([call.settled, ...others]);
  }

  /** The service is there: what is held is sent now. */
  flush(): void {
    this.#waiting?.abort();
    void this.#send();
  }

  /** A row as it is shown, the same object until something changes; nothing where it is
   * removed. */
  shown(row: Notification): Notification | undefined {
    let shown: Notification | undefined = row;
    for (const mark of this.#of(row)) {
      if (!this.#isOf(mark, row) || !VERBS[mark.verb].changes(shown, isNamed(mark.what))) continue;
      const next: Notification | undefined =
        mark.shown.get(shown) ?? VERBS[mark.verb].done(shown, mark.madeAt);
      if (!next) return undefined;
      mark.shown.set(shown, next);
      shown = next;
    }
    return shown;
  }

  /** What the stream has delivered is no mark any more: rows say so themselves, or are
   * gone. */
  settle({ position = 0, epoch }: State): void {
    this.#epoch = epoch;
    for (const mark of this.#marks) {
      if (mark.revision !== undefined && position >= mark.revision) this.#delete(mark);
    }
  }

  /** It is another user's inbox now, or nobody's. */
  end(): void {
    this.#hasEnded = true;
    this.#waiting?.abort();
    for (const { call } of this.#marks) call.settle();
  }

  /** Whether a mark is of this row. What it did in the service a copy of that revision
   * has. */
  #isOf({ what, revision }: Mark, row: Notification): boolean {
    if (revision !== undefined && row.revision >= revision) return false;
    if (isNamed(what)) return true;
    if ("about" in what) return isAbout(what.about, row);
    const { through } = what;
    const wasShown = through.epoch === this.#epoch && row.revision <= through.revision;
    return wasShown && isOfType(through.types, row);
  }

  /** Those that may be of this row, in their order. */
  #of({ id }: Notification): readonly Mark[] {
    const named = this.#named.get(id);
    if (!named || this.#wide.length === 0) return named ?? this.#wide;
    return [...named, ...this.#wide].sort((a, b) => a.number - b.number);
  }

  /** The latest mark of the same. */
  #lastOf(what: Marked): Mark | undefined {
    if (isNamed(what)) return this.#named.get(what)?.at(-1);
    const last = [...this.#marks].at(-1);
    return last && JSON.stringify(last.what) === JSON.stringify(what) ? last : undefined;
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
    const madeAt = new Date().toISOString();
    for (const { verb, what } of held) {
      this.#number += 1;
      const mark = { verb, what, number: this.#number, call, madeAt, isHeld, shown: new WeakMap() };
      this.#marks.add(mark);
      if (!isNamed(what)) this.#wide.push(mark);
      else this.#named.set(what, [...(this.#named.get(what) ?? []), mark]);
    }
    return call;
  }

  #delete(mark: Mark): void {
    const isOther = (other: Mark) => other !== mark;
    this.#marks.delete(mark);
    this.#wide = this.#wide.filter(isOther);
    if (!isNamed(mark.what)) return;
    const named = this.#named.get(mark.what)?.filter(isOther) ?? [];
    if (named.length > 0) this.#named.set(mark.what, named);
    else this.#named.delete(mark.what);
  }

  /** Deletes answered marks that one repeats: where streams are held back none would go. */
  #replace(mark: Mark): void {
    for (const former of [...this.#marks].reverse()) {
      if (former.number >= mark.number) continue;
      // In between something else was done.
      if (former.verb !== mark.verb) return;
      if (repeats(mark.what, former.what)) this.#delete(former);
    }
  }

  #unsent(): Mark[] {
    return [...this.#marks].filter(({ revision }) => revision === undefined);
  }

  #keep(): void {
    this.#clerk.keep(this.#unsent().map(({ verb, what }) => ({ verb, what })));
  }

  /** Sends what is to be sent, one call after the other. */
  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      for (;;) {
        const unsent = this.#unsent();
        const [first] = unsent;
        if (!first || this.#hasEnded) return;
        // Of one call, so that what is wrong with it is not another's fault.
        const { call, verb } = first;
        const isWithIt = (mark: Mark) =>
          isNamed(mark.what) && mark.call === call && mark.verb === verb;
        const isGoing = await this.#sendSome(
          isNamed(first.what) ? unsent.filter(isWithIt) : [first],
        );
        if (!isGoing) return;
      }
    } finally {
      this.#isSending = false;
    }
  }

  /** Sends marks of one verb and call: of some ids, or one that is wide. Answers whether to
   * go on. */
  async #sendSome(marks: readonly Mark[]): Promise<boolean> {
    const batch = marks.slice(0, MOST_MARKED);
    const [first] = batch;
    if (!first) return true;
    const { call, verb, what } = first;
    try {
      const ids = batch.map((mark) => mark.what).filter(isNamed);
      const revision = await this.#clerk.send(verb, isNamed(what) ? ids : what);
      if (this.#hasEnded) return false;
      this.#backoff.reset();
      for (const mark of batch) mark.revision = revision;
      this.#replace(first);
      if (!this.#unsent().some((mark) => mark.call === call)) call.settle();
      this.#keep();
      this.#clerk.changed();
      return true;
    } catch (error) {
      if (this.#hasEnded) return false;
      const isRefused = cureOf(error) === "none";
      const unsent = this.#unsent();
      for (const mark of isRefused ? unsent.filter((other) => other.call === call) : unsent) {
        if (isRefused) this.#delete(mark);
        else mark.isHeld = true;
        mark.call.settle(isRefused ? error : undefined);
      }
      this.#keep();
      this.#clerk.changed();
      if (isRefused) return true;
      this.#waiting = new AbortController();
      await sleep(retryDelayOf(error) + this.#backoff.next(), this.#waiting.signal);
      this.#waiting = undefined;
      return !this.#hasEnded && this.#clerk.isActive();
    }
  }
}

function isNamed(what: Marked): what is string {
  return typeof what === "string";
}

/** Whether one marks all that a former one of the same verb did. */
function repeats(what: Marked, former: Marked): boolean {
  if (isNamed(what) || isNamed(former)) return what === former;
  if ("about" in what || "about" in former) return JSON.stringify(what) === JSON.stringify(former);
  const { revision, epoch, types } = what.through;
  const isSame = epoch === former.through.epoch && JSON.stringify(types) === JSON.stringify(former.through.types);
  return isSame && revision >= former.through.revision;
}

/** Whether it is what was kept: another version's may be otherwise. */
export function isHeld(value: unknown): value is Held {
  const { verb, what } = (value ?? {}) as Partial<Held>;
  return verb !== undefined && verb in VERBS && what !== undefined;
}
