// A list of an inbox: the newest rows that belong to it, down to the oldest page that was
// loaded and, beyond that, so many that came since.
//
// Promises: given a page and all changes of rows since it was asked for, in any order and
// repeated, it has the rows that belong to it, newest first, down to `oldest`; a row that
// did not change stays the same object.

import type { Notification } from "./notification.js";
import { asHeld, isWhole, laterOf, withState, type RowChange } from "./row.js";

/** What a list has. It is replaced, never changed. */
export interface Listed {
  /** Newest first, by `sequence`. */
  readonly rows: readonly Notification[];
  /** Rows of a lower sequence are older than the list and stay out of it. */
  readonly oldest: number;
  /** For the page after the list; empty when there is none, or none is known. */
  readonly nextPageToken: string;
}

/** A page of a list. */
export interface ListPage {
  readonly notifications: readonly Notification[];
  /** For the page after it; empty when there is none. */
  readonly nextPageToken: string;
}

/** Which page of it to ask for. */
export interface PageRequest {
  readonly limit: number;
  readonly pageToken: string;
}

/** A list of which nothing is known: all that comes is below it. */
export const NOTHING: Listed = { rows: [], oldest: Number.POSITIVE_INFINITY, nextPageToken: "" };
/** What came since a page was asked for. */
export type Late = RowChange[];
/** So many rows below a list are remembered. */
const MOST_BELOW = 200;
/** The most rows that one call answers with. */
export const LONGEST_PAGE = 100;

export class List {
  readonly #isIn: (row: Notification) => boolean;
  readonly #least: number;
  #window: number;
  #listed = NOTHING;
  #life = 0;
  /** What came since each of the pages was asked for that are on their way. */
  readonly #late = new Set<Late>();
  /** What came to be in the list below its end. A page may have looked at more than it
   * answered with, and so the next one may begin below. */
  readonly #below = new Map<string, Notification>();

  /** A list of the rows that `isIn` says. It holds `window` rows and the pages that are
   * loaded after the first. */
  constructor(isIn: (row: Notification) => boolean, window: number) {
    this.#isIn = isIn;
    this.#least = window;
    this.#window = window;
  }

  /** The same object until something changes. */
  get listed(): Listed {
    return this.#listed;
  }

  /** Goes up whenever the list is replaced: an answer to a question about the former
   * list is of no use. */
  get life(): number {
    return this.#life;
  }

  /** Takes a list in place of its own. */
  adopt({ rows, oldest, nextPageToken }: Listed): void {
    this.#listed = { rows, oldest, nextPageToken };
    this.#window = Math.max(this.#least, rows.length);
    this.#life += 1;
    this.#below.clear();
  }

  /** Begins to ask for a page: what comes until `end` may be later than that is. */
  begin(): Late {
    const late: Late = [];
    this.#late.add(late);
    return late;
  }

  end(late: Late): void {
    this.#late.delete(late);
    this.#trim();
  }

  /** Takes the first page, which is as of `revision`, in place of its list, and what came
   * since it was asked for. */
  load({ notifications, nextPageToken }: ListPage, revision: number, late: Late = []): void {
    this.#late.delete(late);
    const rows = asHeld(this.#listed.rows, this.#chosen(notifications));
    const oldest = nextPageToken ? (rows.at(-1)?.sequence ?? revision + 1) : 0;
    this.adopt({ rows, oldest, nextPageToken });
    this.#window = this.#least;
    for (const change of late) this.take(change, revision);
    this.#trim();
  }

  /** Takes the page after its end, and what came since it was asked for. */
  add({ notifications, nextPageToken }: ListPage, late: Late): void {
    this.#late.delete(late);
    const { rows, oldest } = this.#listed;
    const found = this.#chosen(notifications);
    for (const row of found) this.#put(row);
    this.#window += this.#listed.rows.length - rows.length;
    const last = found.at(-1)?.sequence ?? oldest;
    this.#change({ oldest: nextPageToken ? Math.min(oldest, last) : 0, nextPageToken });
    // The page is as of its snapshot, and the stream went on meanwhile.
    for (const change of [...this.#below.values(), ...late]) this.take(change);
    for (const { id, sequence } of this.#below.values()) {
      if (sequence >= this.#listed.oldest) this.#below.delete(id);
    }
    this.#trim();
  }

  /** Takes a row that changed, or its state; says whether the list is another one now.
   * One that is not held and as of `floor` or before is an echo: it has left the list
   * since, or is too old. */
  take(change: RowChange, floor = -1): boolean {
    const { sequence, revision } = change;
    const held = this.find(change);
    if (revision <= (held?.revision ?? floor)) return false;
    for (const late of this.#late) late.push(change);
    if (held) {
      const row = isWhole(change) ? change : withState(held, change);
      if (row) this.#put(row);
      else this.keep((other) => other !== held);
      return true;
    }
    if (sequence < this.#listed.oldest) this.#remember(change);
    else if (isWhole(change) && this.#isIn(change)) {
      this.#put(change);
      this.#trim();
      return this.find(change) === change;
    }
    return false;
  }

  /** Keeps only those rows. */
  keep(stays: (row: Notification) => boolean): void {
    const { rows } = this.#listed;
    if (!rows.every(stays)) this.#change({ rows: rows.filter(stays) });
  }

  /** The copy that is held. */
  find({ id, sequence }: RowChange): Notification | undefined {
    const held = this.#listed.rows[this.#at(sequence)];
    return held?.id === id ? held : undefined;
  }

  /** Loads pages, until one has older ones or there are no more. `isOurs` says whether a
   * page is of the same inbox. */
  async more<P extends ListPage>(
    pageSize: number,
    ask: (request: PageRequest) => Promise<P>,
    isOurs: (page: P) => boolean,
  ): Promise<void> {
    const { oldest, nextPageToken } = this.#listed;
    // A list that was shortened knows no token for what follows: it begins at the top,
    // and soon comes to what it does not have.
    const limit = nextPageToken ? pageSize : LONGEST_PAGE;
    const life = this.#life;
    do {
      const late = this.begin();
      try {
        const page = await ask({ limit, pageToken: this.#listed.nextPageToken });
        if (life !== this.#life || !isOurs(page)) return;
        this.add(page, late);
      } finally {
        this.end(late);
      }
    } while (this.#listed.oldest === oldest && this.#listed.nextPageToken);
  }

  /** Where a row of this sequence is, or belongs. */
  #at(sequence: number): number {
    const { rows } = this.#listed;
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((rows[middle]?.sequence ?? 0) > sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Puts a row where it belongs, or takes it away, unless the copy that is held is as
   * new. */
  #put(row: Notification): void {
    const { rows } = this.#listed;
    const at = this.#at(row.sequence);
    const held = this.find(row);
    if (held && row.revision <= held.revision) return;
    const taken = this.#isIn(row) ? [row] : [];
    if (held || taken.length > 0) this.#change({ rows: [...rows.slice(0, at), ...taken, ...rows.slice(held ? at + 1 : at)] });
  }

  /** Remembers what is below the list and would be in it. */
  #remember(change: RowChange): void {
    if (this.#listed === NOTHING) return;
    const former = this.#below.get(change.id);
    const row = former ? laterOf(former, change) : change;
    if (isWhole(row) && this.#isIn(row)) this.#below.set(row.id, row);
    else this.#below.delete(row.id);
    if (this.#below.size <= MOST_BELOW) return;
    // Who loads more begins at the top.
    this.#below.clear();
    this.#life += 1;
    this.#change({ nextPageToken: "" });
  }

  /** What is above the window leaves the list, the oldest first. A page that is on its way
   * begins where the list ends: until it is there nothing leaves. */
  #trim(): void {
    if (this.#late.size > 0) return;
    const { rows } = this.#listed;
    const out = rows[this.#window];
    if (!out) return;
    const oldest = out.sequence + 1;
    this.#change({ rows: rows.slice(0, this.#window), oldest, nextPageToken: "" });
  }

  #change(part: Partial<Listed>): void {
    const keys = Object.keys(part) as (keyof Listed)[];
    if (keys.some((key) => part[key] !== this.#listed[key])) {
      this.#listed = { ...this.#listed, ...part };
    }
  }

  /** The rows of a page that are in the list, newest first. */
  #chosen(rows: readonly Notification[]): readonly Notification[] {
    return rows.filter(this.#isIn).sort((a, b) => b.sequence - a.sequence);
  }
}
