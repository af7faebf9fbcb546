// The state of an inbox as a fold over its stream, without I/O.
//
// Promises: whatever is repeated, cut and resumed, the state after a message is
// that of the service's inbox at the position reached. The list holds the newest
// notifications, down to the oldest page that was loaded and, beyond that, so many
// that came since; the counts are those of the highest revision seen, and are never added
// to or subtracted from. What cannot be folded asks for a load.
//
// `tests/folds.json` says the same in cases, to this fold and to that of the Rust client.

import type { Notification } from "./notification.js";

/** An inbox at one revision: of two the one of the higher revision is the later one. */
export interface Head {
  readonly revision: number;
  readonly unreadCount: number;
  /** How many of those were created after the person last looked. */
  readonly unseenCount: number;
  /** The sequence up to which the person has looked. */
  readonly seenThrough: number;
}

/** The first notifications of an inbox, or those after a page, as of one moment. */
export interface Page {
  readonly notifications: readonly Notification[];
  /** For the page after it; empty when there is none. */
  readonly nextPageToken: string;
  readonly epoch: string;
  readonly head: Head;
}

/** What a stream says. */
export interface Message {
  readonly position: number;
  readonly head: Head;
  /** Whether it is to be heard. */
  readonly ring: boolean;
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
  | { readonly kind: "changed"; readonly rows: readonly RowState[] }
  | { readonly kind: "seen" | "caughtUp" | "heartbeat" }
  | { readonly kind: "reset"; readonly epoch: string }
  /** Come back after so many milliseconds. */
  | { readonly kind: "reconnect"; readonly after: number }
  /** Of a kind that came after this client was made. */
  | { readonly kind: "unknown" };

/** All of a row that can change but its content. */
export interface RowState {
  readonly id: string;
  readonly revision: number;
  readonly readAt?: string;
  /** It was archived or removed. */
  readonly isGone: boolean;
  /** The row itself, where a screen may not have it. */
  readonly whole?: Notification;
}

/** All there is to know of an inbox: what is kept, and what tabs tell each other. */
export interface State {
  /** The life of the store that all of this belongs to. */
  readonly epoch: string;
  /** Where the stream resumes; nothing when the inbox has to be loaded. */
  readonly position: number | undefined;
  /** The list is whole up to this revision, by the stream or by what was asked for. */
  readonly reached: number;
  readonly head: Head;
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

const NOTHING: Effect = { then: "continue" };
const LOAD: Effect = { then: "load" };
/** The list holds so many rows, and the pages that were loaded after the first. */
const WINDOW = 200;
/** Of an inbox that was not loaded. */
export const UNKNOWN: State = {
  epoch: "",
  position: undefined,
  reached: 0,
  head: { revision: 0, unreadCount: 0, unseenCount: 0, seenThrough: 0 },
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
  /** The highest position of all streams since the load. One that takes over begins
   * below it: what was told before comes once more, and is silent. */
  #told = 0;
  /** Goes up whenever the list is replaced: an answer to a question about the
   * former list is of no use. */
  #life = 0;
  /** What came for rows that are not held, while a page was asked for. */
  #late: (Notification | RowState)[] | undefined;

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

  /** Forgets everything. */
  drop(): void {
    this.#state = UNKNOWN;
    this.#told = 0;
    this.#window = this.#least;
    this.#renew();
  }

  /** Takes a state that was kept, or that another tab had, in place of its own. */
  adopt(state: State): void {
    this.#state = state;
    this.#told = state.position ?? state.head.revision;
    this.#window = Math.max(this.#least, state.rows.length);
    this.#renew();
  }

  /** The position is of no use: the inbox is to be loaded. */
  unplace(): void {
    this.#change({ position: undefined });
  }

  /** Takes the first page, asked for without a token, in place of its list. */
  load(page: Page): void {
    const former = this.#state;
    const { epoch, head, nextPageToken } = page;
    const { revision } = head;
    const rows = listed(page);
    const oldest = nextPageToken ? (rows.at(-1)?.sequence ?? revision + 1) : 0;
    const position = revision;
    this.#state = { epoch, position, reached: revision, head, rows, oldest, nextPageToken };
    this.#window = this.#least;
    this.#trim();
    this.#told = revision;
    // An answer may be older than one that came before it.
    if (former.epoch === epoch) this.observe(former.head);
    this.#renew();
  }

  /** Folds one message of the stream. */
  apply(message: Message): Effect {
    const { position } = this.#state;
    const above = position === undefined || message.position > position;
    const { event } = message;
    let effect = NOTHING;
    let reached = Math.max(position ?? message.position, message.position);
    switch (event.kind) {
      case "connected":
        if (this.#isForeign(event.epoch)) return this.#dropAndLoad();
        // A stream that takes over begins below the end of the former one, of which
        // the rest will not come: what that had still to tell this one tells.
        reached = message.position;
        this.#change({ epoch: event.epoch, reached });
        break;
      case "notification":
        effect = this.#heard(message, this.#upsert(event.notification));
        break;
      case "changed":
        for (const row of event.rows) {
          if (!row.whole) this.#update(row);
          else if (this.#upsert(row.whole)) effect = this.#heard(message, row.whole);
        }
        break;
      case "reset":
        // A head below what was seen is of another life too, whatever it is called.
        if (this.#isForeign(event.epoch) || message.head.revision < this.#state.head.revision) {
          return this.#dropAndLoad();
        }
        effect = LOAD;
        break;
      case "unknown":
        if (above) effect = LOAD;
    }
    this.observe(message.head);
    if (effect.then === "load") this.unplace();
    else this.#change({ position: reached, reached: Math.max(this.#state.reached, reached) });
    this.#told = Math.max(this.#told, reached);
    return effect;
  }

  /** Takes the head of an answer. It orders the counts and moves no position. */
  observe(head: Head): void {
    this.#state = observed(this.#state, head);
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
    for (const row of late) {
      if ("isGone" in row) this.#update(row);
      else this.#upsert(row, true);
    }
    this.observe(page.head);
    return true;
  }

  /** The page did not come. */
  endPage(): void {
    this.#late = undefined;
  }

  /** Takes the first page as a poll finds it, which moves no position: a stream that
   * resumes there brings all else. Answers with what is new and unseen, newest first. */
  addPolled(page: Page): readonly Notification[] {
    const { rows, oldest } = this.#state;
    const { revision, seenThrough } = page.head;
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
      row.sequence < lowest || row.revision > revision || ids.has(row.id);
    if (!rows.every(stays)) this.#change({ rows: rows.filter(stays) });
    const former = Math.max(this.#told, newest, seenThrough);
    for (const row of found) if (row.sequence >= oldest) this.#put(row);
    this.#trim();
    this.#change({ reached: Math.max(this.#state.reached, revision) });
    this.observe(page.head);
    return found.filter((row) => row.sequence > former && !row.readAt);
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

  /** What a message that changed this row did; nothing where it changed none. */
  #heard({ ring }: Message, row: Notification | undefined): Effect {
    return ring && row && row.revision > this.#told ? { then: "continue", ring: row } : NOTHING;
  }

  /** Answers with the row if it is in the list now, and was not as it is. */
  #upsert(row: Notification, isLate = false): Notification | undefined {
    const { position, rows, oldest } = this.#state;
    if (!rows.some(({ id }) => id === row.id)) {
      // Everything up to the position was delivered: a row that is not held any
      // more has left the inbox or is too old, and an echo does not bring it back.
      if (!isLate && position !== undefined && row.revision <= position) return undefined;
      if (row.sequence < oldest) {
        this.#late?.push(row);
        return undefined;
      }
    }
    this.#put(row);
    this.#trim();
    return this.#state.rows.includes(row) && !rows.includes(row) ? row : undefined;
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

  /** Changes the row that is held, unless that is as new. */
  #update(state: RowState): void {
    const { rows } = this.#state;
    const index = rows.findIndex(({ id }) => id === state.id);
    const held = rows[index];
    if (!held) this.#late?.push(state);
    if (!held || state.revision <= held.revision) return;
    const { readAt: _, ...rest } = held;
    const { revision, readAt, isGone } = state;
    const row = { ...rest, revision, ...(readAt !== undefined && { readAt }) };
    this.#change({ rows: isGone ? rows.toSpliced(index, 1) : rows.with(index, row) });
  }

  /** What is above the window leaves the list, the oldest first. */
  #trim(): void {
    const { rows } = this.#state;
    const out = rows[this.#window];
    if (!out) return;
    const oldest = out.sequence + 1;
    this.#change({ rows: rows.slice(0, this.#window), oldest, nextPageToken: "" });
  }
}

/** Whether there is a list to show. A list outlives its position. */
export function isLoaded(state: State): boolean {
  return state.epoch !== "";
}

/** The state with a head that an answer brought, where that is later. */
export function observed(state: State, head: Head): State {
  return head.revision > state.head.revision ? { ...state, head } : state;
}

/** The rows of a page that are in the list, newest first. */
function listed(page: Page): readonly Notification[] {
  return page.notifications
    .filter((row) => !row.archivedAt)
    .sort((a, b) => b.sequence - a.sequence);
}
