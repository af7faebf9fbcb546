// The state of an inbox as a fold over its stream, without I/O.
//
// Promises: whatever is repeated, cut and resumed, the state after a message is
// that of the service's inbox at the position reached. The list holds the newest
// notifications, down to the oldest page that was loaded and, beyond that, so many
// that came since; the count is the one that belongs to the highest revision seen, and
// is never added to or subtracted from. What cannot be folded asks for a load.
//
// `tests/folds.json` says the same in cases, to this fold and to that of the Rust client.

import type { Notification } from "./notification.js";

/** The first notifications of an inbox, or those after a page, as of one moment. */
export interface Page {
  readonly notifications: readonly Notification[];
  /** For the page after it; empty when there is none. */
  readonly nextPageToken: string;
  readonly epoch: string;
  readonly revision: number;
  readonly unreadCount: number;
}

/** What a stream says. */
export interface Message {
  readonly position: number;
  readonly revision: number;
  readonly unreadCount: number;
  readonly replayed: boolean;
  readonly event: StreamEvent;
}

/** What happened. */
export type StreamEvent =
  | {
      readonly kind: "connected";
      readonly epoch: string;
      /** In milliseconds; 0 where it is not said. */
      readonly heartbeat: number;
      /** In milliseconds since 1970; 0 where it is not said. */
      readonly tokenEnds: number;
    }
  | { readonly kind: "notification"; readonly notification: Notification }
  | Marked
  | { readonly kind: "caughtUp" | "heartbeat" }
  | { readonly kind: "reset"; readonly epoch: string }
  /** Come back after so many milliseconds. */
  | { readonly kind: "reconnect"; readonly after: number }
  /** Of a kind that came after this client was made. */
  | { readonly kind: "unknown" };

interface Marked {
  readonly kind: "markedRead";
  readonly ids: readonly string[];
  readonly readAt: string;
}

/** All there is to know of an inbox: what is kept, and what tabs tell each other. */
export interface State {
  /** The life of the store that all of this belongs to. */
  readonly epoch: string;
  /** Where the stream resumes; nothing when the inbox has to be loaded. */
  readonly position: number | undefined;
  readonly revision: number;
  readonly unreadCount: number;
  /** Newest first, by `sequence`; archived ones are not in it. */
  readonly rows: readonly Notification[];
  /** Rows of a lower sequence are older than the list and stay out of it. */
  readonly oldest: number;
  /** For the page after the list; empty when there is none, or none is known. */
  readonly nextPageToken: string;
}

/** What a message did. */
export interface Effect {
  /** `load`: the stream cannot go on from here; load, then subscribe after that. */
  readonly then: "continue" | "load";
  /** A notification that is new to this screen: announce it. */
  readonly ring?: Notification;
}

/** What came for a row that is not held. */
type Late = Notification | { readonly marked: Marked; readonly revision: number };

const NOTHING: Effect = { then: "continue" };
const LOAD: Effect = { then: "load" };
/** The list holds so many rows, and the pages that were loaded after the first. */
const WINDOW = 200;
/** Of an inbox that was not loaded. */
export const UNKNOWN: State = {
  epoch: "",
  position: undefined,
  revision: 0,
  unreadCount: 0,
  rows: [],
  oldest: 0,
  nextPageToken: "",
};

/** Folds an inbox. States, rows and lists are replaced, never changed. */
export class Fold {
  readonly #least: number;
  #window: number;
  /** The same object until something changes. */
  #state = UNKNOWN;
  /** Rows of this sequence or a lower one were there before the stream. */
  #ringAbove = 0;
  #reached = 0;
  /** Goes up whenever the list is replaced: an answer to a question about the
   * former list is of no use. */
  #life = 0;
  /** What came for rows that are not held, while a page was asked for. */
  #late: Late[] | undefined;

  constructor(window = WINDOW) {
    this.#least = window;
    this.#window = window;
  }

  get state(): State {
    return this.#state;
  }
  get life(): number {
    return this.#life;
  }
  /** The list is whole up to this revision, by the stream or by what was asked for. */
  get reached(): number {
    return this.#reached;
  }

  /** Forgets everything. */
  drop(): void {
    this.#state = UNKNOWN;
    this.#ringAbove = 0;
    this.#reached = 0;
    this.#window = this.#least;
    this.#renew();
  }

  /** Takes a state that was kept, or that another tab had, in place of its own. */
  adopt(state: State): void {
    this.#state = state;
    this.#ringAbove = state.position ?? state.revision;
    this.#reached = state.position ?? 0;
    this.#window = Math.max(this.#least, state.rows.length);
    this.#renew();
  }

  /** Takes the first page, asked for without a token, in place of its list. */
  load(page: Page): void {
    const { epoch, revision, unreadCount } = this.#state;
    const rows = listed(page);
    this.#state = {
      epoch: page.epoch,
      position: page.revision,
      revision: page.revision,
      unreadCount: page.unreadCount,
      rows,
      oldest: page.nextPageToken ? (rows.at(-1)?.sequence ?? page.revision + 1) : 0,
      nextPageToken: page.nextPageToken,
    };
    this.#window = this.#least;
    this.#trim();
    this.#ringAbove = page.revision;
    this.#reached = page.revision;
    // An answer may be older than one that came before it.
    if (epoch === page.epoch) this.observe(revision, unreadCount);
    this.#renew();
  }

  /** Folds one message of the stream. */
  apply(message: Message): Effect {
    const { position } = this.#state;
    const above = position === undefined || message.position > position;
    const { event } = message;
    let effect = NOTHING;
    switch (event.kind) {
      case "connected":
        if (this.#isForeign(event.epoch)) return this.#dropAndLoad();
        this.#change({ epoch: event.epoch });
        // A stream that takes over from another one begins below its end: what
        // that one delivered comes once more, and is silent.
        this.#ringAbove = Math.max(this.#ringAbove, position ?? message.position);
        break;
      case "notification":
        effect = this.#upsert(event.notification, message.replayed);
        break;
      case "markedRead":
        if (above) this.#markRead(event, message.revision);
        break;
      case "reset":
        // A head below what was seen is of another life too, whatever it is called.
        if (this.#isForeign(event.epoch) || message.revision < this.#state.revision) {
          return this.#dropAndLoad();
        }
        effect = LOAD;
        break;
      case "unknown":
        if (above) effect = LOAD;
    }
    this.observe(message.revision, message.unreadCount);
    const reached = Math.max(position ?? message.position, message.position);
    this.#change({ position: effect.then === "load" ? undefined : reached });
    this.#reached = Math.max(this.#reached, reached);
    return effect;
  }

  /** Takes the head of an answer. It orders the count and moves no position. */
  observe(revision: number, unreadCount: number): void {
    this.#state = observed(this.#state, revision, unreadCount);
  }

  /** Begins to ask for the page after the list; `addPage` or `endPage` ends it. */
  beginPage(): void {
    this.#late = [];
  }

  /** Takes the page that was asked for since `life`. */
  addPage(page: Page, life: number): boolean {
    const late = this.#late ?? [];
    this.#late = undefined;
    if (life !== this.#life || page.epoch !== this.#state.epoch) return false;
    const { rows, oldest } = this.#state;
    for (const row of page.notifications) this.#put(row);
    this.#window += this.#state.rows.length - rows.length;
    const { nextPageToken } = page;
    const last = listed(page).at(-1)?.sequence ?? oldest;
    this.#change({ oldest: nextPageToken ? Math.min(oldest, last) : 0, nextPageToken });
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

  /** Takes the first page as a poll finds it, which moves no position: a stream that
   * resumes there brings all else. Answers with what is new and unread, newest first. */
  addPolled(page: Page): readonly Notification[] {
    const { rows, oldest } = this.#state;
    const found = listed(page);
    const last = found.at(-1)?.sequence ?? 0;
    const newest = rows[0]?.sequence ?? 0;
    if (page.epoch !== this.#state.epoch || (page.nextPageToken !== "" && last > newest)) {
      // Of another life of the store; or between the page and the list there is more.
      if (page.epoch !== this.#state.epoch) this.drop();
      this.load(page);
      return [];
    }
    // Down to its last row the page is all there is.
    const lowest = page.nextPageToken === "" ? 0 : last;
    const ids = new Set(found.map(({ id }) => id));
    const stays = (row: Notification) =>
      row.sequence < lowest || row.revision > page.revision || ids.has(row.id);
    if (!rows.every(stays)) this.#change({ rows: rows.filter(stays) });
    const ringAbove = Math.max(this.#ringAbove, newest);
    for (const row of found) if (row.sequence >= oldest) this.#put(row);
    this.#trim();
    this.#reached = Math.max(this.#reached, page.revision);
    this.observe(page.revision, page.unreadCount);
    return found.filter((row) => row.sequence > ringAbove && !row.readAt);
  }

  #change(part: Partial<State>): void {
    const keys = Object.keys(part) as (keyof State)[];
    if (keys.some((key) => part[key] !== this.#state[key])) {
      this.#state = { ...this.#state, ...part };
    }
  }

  #isForeign(epoch: string): boolean {
    return isLoaded(this.#state) && this.#state.epoch !== epoch;
  }

  #dropAndLoad(): Effect {
    this.drop();
    return LOAD;
  }

  #renew(): void {
    this.#life += 1;
    this.#late = undefined;
  }

  #upsert(row: Notification, replayed: boolean, isLate = false): Effect {
    const { position, rows, oldest } = this.#state;
    if (rows.some(({ id }) => id === row.id)) {
      this.#put(row);
      return NOTHING;
    }
    // Everything up to the position was delivered: a row that is not held any
    // more was archived or is too old, and an echo does not bring it back.
    const isEcho = !isLate && position !== undefined && row.revision <= position;
    if (isEcho || row.sequence < oldest) {
      this.#late?.push(row);
      return NOTHING;
    }
    this.#put(row);
    this.#trim();
    const rings = !replayed && !row.archivedAt && row.sequence > this.#ringAbove;
    return rings ? { then: "continue", ring: row } : NOTHING;
  }

  /** Puts a row where it belongs, unless the copy that is held is as new. */
  #put(row: Notification): void {
    const { rows } = this.#state;
    const index = rows.findIndex((held) => held.id === row.id);
    const held = rows[index];
    if (held ? row.revision <= held.revision : row.archivedAt) return;
    if (held && row.archivedAt) this.#change({ rows: rows.filter((other) => other !== held) });
    else if (held) this.#change({ rows: rows.with(index, row) });
    else {
      const at = rows.findIndex((other) => other.sequence < row.sequence);
      this.#change({ rows: rows.toSpliced(at < 0 ? rows.length : at, 0, row) });
    }
  }

  /** What is above the window leaves the list, the oldest first. */
  #trim(): void {
    const { rows } = this.#state;
    const out = rows[this.#window];
    if (!out) return;
    const oldest = out.sequence + 1;
    this.#change({ rows: rows.slice(0, this.#window), oldest, nextPageToken: "" });
  }

  #markRead(marked: Marked, revision: number): void {
    const { ids, readAt } = marked;
    const missing = new Set(ids);
    let changed = false;
    const rows = this.#state.rows.map((row) => {
      if (!missing.delete(row.id) || row.revision >= revision) return row;
      changed = true;
      return { ...row, revision, readAt };
    });
    if (changed) this.#change({ rows });
    if (missing.size > 0) this.#late?.push({ marked, revision });
  }
}

/** Whether there is a list to show. A list outlives its position. */
export function isLoaded(state: State): boolean {
  return state.epoch !== "";
}

/** The state with a head that an answer brought, where that is no older. */
export function observed(state: State, revision: number, unreadCount: number): State {
  const isSame = revision === state.revision && unreadCount === state.unreadCount;
  return isSame || revision < state.revision ? state : { ...state, revision, unreadCount };
}

/** The rows of a page that are in the list, newest first. */
function listed(page: Page): readonly Notification[] {
  return page.notifications
    .filter((row) => !row.archivedAt)
    .sort((a, b) => b.sequence - a.sequence);
}
