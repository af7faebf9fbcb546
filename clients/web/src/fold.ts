// The state of an inbox as a fold over its stream, without I/O.
//
// Promises: whatever is repeated, cut and resumed, the state after a message is
// that of the service's inbox at the position reached. The list holds the newest
// notifications, down to the oldest page that was loaded; the count is the one
// that belongs to the highest revision seen, and is never added to or subtracted
// from. What cannot be folded asks for a load.

import type {
  GetRecentResponse,
  MarkedRead,
  Notification,
  SubscribeResponse,
} from "./gen/doorbell/v1/notifications_pb.js";

/** All there is to know of an inbox: what is kept, and what tabs tell each other. */
export interface State {
  /** The life of the store that all of this belongs to. */
  readonly epoch: string;
  /** Where the stream resumes. */
  readonly position: bigint;
  readonly revision: bigint;
  readonly unreadCount: number;
  /** Newest first, by `sequence`; archived ones are not in it. */
  readonly rows: readonly Notification[];
  /** Rows of a lower sequence are older than the list and stay out of it. */
  readonly oldest: bigint;
  /** For the page after the list; empty when there is none. */
  readonly nextPageToken: string;
}

/** How to go on after a message. */
export type Then =
  | "continue"
  /** The stream cannot go on from here: load, then subscribe after that. */
  | "load";

/** What a message did. */
export interface Effect {
  readonly then: Then;
  /** A notification that is new to this screen: announce it. */
  readonly ring?: Notification;
}

interface Head {
  readonly epoch: string | undefined;
  readonly revision: bigint;
  readonly unreadCount: number;
}

/** What came for a row that is not held. */
type Late = Notification | { readonly marked: MarkedRead; readonly revision: bigint };

const NOTHING: Effect = { then: "continue" };
const LOAD: Effect = { then: "load" };

/** Folds an inbox. Rows and lists are replaced, never changed. */
export class Fold {
  #rows: readonly Notification[] = [];
  #oldest = 0n;
  #nextPageToken = "";
  #revision = 0n;
  #unreadCount = 0;
  #position: bigint | undefined;
  #epoch: string | undefined;
  /** Rows of this sequence or a lower one were there before the stream. */
  #ringAbove = 0n;
  /** Goes up whenever the list is replaced: an answer to a question about the
   * former list is of no use. */
  #life = 0;
  /** What came for rows that are not held, while a page was asked for. */
  #late: Late[] | undefined;
  #state: State | undefined;

  get rows(): readonly Notification[] {
    return this.#rows;
  }
  get revision(): bigint {
    return this.#revision;
  }
  get unreadCount(): number {
    return this.#unreadCount;
  }
  get position(): bigint | undefined {
    return this.#position;
  }
  get epoch(): string | undefined {
    return this.#epoch;
  }
  get nextPageToken(): string {
    return this.#nextPageToken;
  }
  get oldest(): bigint {
    return this.#oldest;
  }
  get life(): number {
    return this.#life;
  }
  /** Whether there is a list to show. A list outlives its position. */
  get isLoaded(): boolean {
    return this.#epoch !== undefined;
  }

  /** All of it, the same object until something changes; nothing when it has to be
   * loaded. */
  state(): State | undefined {
    if (this.#position === undefined || this.#epoch === undefined) return undefined;
    const state: State = {
      epoch: this.#epoch,
      position: this.#position,
      revision: this.#revision,
      unreadCount: this.#unreadCount,
      rows: this.#rows,
      oldest: this.#oldest,
      nextPageToken: this.#nextPageToken,
    };
    const former = this.#state;
    const keys = Object.keys(state) as (keyof State)[];
    if (!former || keys.some((key) => state[key] !== former[key])) this.#state = state;
    return this.#state;
  }

  /** Forgets everything. */
  drop(): void {
    this.#rows = [];
    this.#oldest = 0n;
    this.#nextPageToken = "";
    this.#revision = 0n;
    this.#unreadCount = 0;
    this.#position = undefined;
    this.#epoch = undefined;
    this.#ringAbove = 0n;
    this.#renew();
  }

  /** Takes a state that was kept, or that another tab has, in place of its own. */
  adopt(state: State): void {
    const head = this.#head();
    this.#rows = state.rows;
    this.#oldest = state.oldest;
    this.#nextPageToken = state.nextPageToken;
    this.#revision = state.revision;
    this.#unreadCount = state.unreadCount;
    this.#position = state.position;
    this.#epoch = state.epoch;
    this.#ringAbove = state.position;
    this.#keepNewer(head);
    this.#renew();
  }

  /** Takes the first page, asked for without `since`, in place of its list. */
  load(page: GetRecentResponse): void {
    const head = this.#head();
    this.#rows = newestFirst(page.notifications.filter((row) => !row.archivedAt));
    this.#oldest = below(this.#rows, page);
    this.#nextPageToken = page.nextPageToken;
    this.#revision = page.revision;
    this.#unreadCount = page.unreadCount;
    this.#position = page.revision;
    this.#epoch = page.epoch;
    this.#ringAbove = page.revision;
    this.#keepNewer(head);
    this.#renew();
  }

  /** Folds one message of the stream. */
  apply(message: SubscribeResponse): Effect {
    const above = this.#position === undefined || message.position > this.#position;
    const { event } = message;
    let effect = NOTHING;
    switch (event.case) {
      case "connected":
        if (this.#isForeign(event.value.epoch)) return this.#dropAndLoad();
        this.#epoch = event.value.epoch;
        // A stream that takes over from another one begins below its end: what
        // that one delivered comes once more, and is silent.
        this.#ringAbove = max(this.#ringAbove, this.#position ?? message.position);
        break;
      case "notification":
        effect = this.#upsert(event.value, message.replayed);
        break;
      case "markedRead":
        if (above) this.#markRead(event.value, message.revision);
        break;
      case "caughtUp":
      case "heartbeat":
      case "reconnect":
        break;
      case "reset":
        // A head below what was seen is of another life too, whatever it is called.
        if (this.#isForeign(event.value.epoch) || message.revision < this.#revision) {
          return this.#dropAndLoad();
        }
        effect = LOAD;
        break;
      default:
        // A kind of event that came after this client was made.
        if (above) effect = LOAD;
    }
    this.observe(message.revision, message.unreadCount);
    if (effect.then === "load") this.#position = undefined;
    else this.#position = max(this.#position ?? message.position, message.position);
    return effect;
  }

  /** Takes the head of an answer. It orders the count and moves no position. */
  observe(revision: bigint, unreadCount: number): void {
    if (revision < this.#revision) return;
    this.#revision = revision;
    this.#unreadCount = unreadCount;
  }

  /** Begins to ask for the page after the list; `addPage` or `endPage` ends it. */
  beginPage(): void {
    this.#late = [];
  }

  /** Takes the page that was asked for since `life`. */
  addPage(page: GetRecentResponse, life: number): boolean {
    const late = this.#late ?? [];
    this.#late = undefined;
    if (life !== this.#life || page.epoch !== this.#epoch) return false;
    for (const row of page.notifications) {
      if (!row.archivedAt) this.#put(row);
    }
    this.#oldest = page.nextPageToken
      ? min(this.#oldest, below(newestFirst(page.notifications), page, this.#oldest))
      : 0n;
    this.#nextPageToken = page.nextPageToken;
    // The page is as of its snapshot, and the stream went on meanwhile.
    for (const event of late) {
      if ("marked" in event) this.#markRead(event.marked, event.revision);
      else this.#upsert(event, true, true);
    }
    this.observe(page.revision, page.unreadCount);
    return true;
  }

  /** The page did not come. */
  endPage(): void {
    this.#late = undefined;
  }

  /** Takes what a poll with `since` found. False: it is not to be had so, load. */
  addPolled(page: GetRecentResponse): boolean {
    if (page.epoch !== this.#epoch) {
      this.drop();
      return false;
    }
    // Between the page and the list there is more.
    if (page.nextPageToken) return false;
    for (const row of page.notifications) {
      if (!row.archivedAt && row.sequence >= this.#oldest) this.#put(row);
    }
    this.observe(page.revision, page.unreadCount);
    return true;
  }

  #isForeign(epoch: string): boolean {
    return this.#epoch !== undefined && this.#epoch !== epoch;
  }

  #dropAndLoad(): Effect {
    this.drop();
    return LOAD;
  }

  #renew(): void {
    this.#life += 1;
    this.#late = undefined;
  }

  #head(): Head {
    return { epoch: this.#epoch, revision: this.#revision, unreadCount: this.#unreadCount };
  }

  /** An answer may be older than one that came before it. */
  #keepNewer(head: Head): void {
    if (head.epoch === this.#epoch) this.observe(head.revision, head.unreadCount);
  }

  #upsert(row: Notification, replayed: boolean, isLate = false): Effect {
    const held = this.#rows.find((other) => other.id === row.id);
    if (held) {
      if (row.revision > held.revision) this.#put(row);
      return NOTHING;
    }
    // Everything up to the position was delivered: a row that is not held any
    // more was archived or is too old, and an echo does not bring it back.
    const isEcho =
      !isLate && this.#position !== undefined && row.revision <= this.#position;
    if (isEcho || row.sequence < this.#oldest) {
      this.#late?.push(row);
      return NOTHING;
    }
    if (row.archivedAt) return NOTHING;
    this.#put(row);
    return !replayed && row.sequence > this.#ringAbove
      ? { then: "continue", ring: row }
      : NOTHING;
  }

  /** Puts a row where it belongs, unless the copy that is held is as new. */
  #put(row: Notification): void {
    const index = this.#rows.findIndex((held) => held.id === row.id);
    const held = this.#rows[index];
    if (held && row.revision <= held.revision) return;
    if (held) {
      this.#rows = row.archivedAt
        ? this.#rows.filter((other) => other !== held)
        : this.#rows.with(index, row);
      return;
    }
    if (row.archivedAt) return;
    const at = this.#rows.findIndex((other) => other.sequence < row.sequence);
    this.#rows = this.#rows.toSpliced(at < 0 ? this.#rows.length : at, 0, row);
  }

  #markRead(marked: MarkedRead, revision: bigint): void {
    const ids = new Set(marked.notificationIds);
    let changed = false;
    const rows = this.#rows.map((row) => {
      if (!ids.has(row.id)) return row;
      ids.delete(row.id);
      if (row.revision >= revision) return row;
      changed = true;
      return { ...row, revision, ...(marked.readAt && { readAt: marked.readAt }) };
    });
    if (changed) this.#rows = rows;
    if (ids.size > 0) this.#late?.push({ marked, revision });
  }
}

function newestFirst(rows: readonly Notification[]): Notification[] {
  return rows.toSorted((a, b) => (a.sequence < b.sequence ? 1 : -1));
}

/** The lowest sequence of a page; where it has no rows, what is below it. */
function below(
  rows: readonly Notification[],
  page: GetRecentResponse,
  otherwise = page.revision + 1n,
): bigint {
  if (!page.nextPageToken) return 0n;
  return rows.at(-1)?.sequence ?? otherwise;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
