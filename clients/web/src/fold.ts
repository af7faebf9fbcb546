// The state of an inbox as a fold over its stream, without I/O.
//
// Promises: whatever is repeated, cut and resumed, the state after a message is
// that of the service's inbox at the position reached. The list holds the newest
// notifications, down to the oldest page that was loaded and, beyond that, so many
// that came since; the counts are those of the highest revision seen, and are never added
// to or subtracted from. What cannot be folded asks for a load.
//
// `tests/folds.json` says the same in cases, to this fold and to that of the Rust client.

import { List, type Listed, type PageRequest } from "./list.js";
import type { Notification } from "./notification.js";
import { answers } from "./question.js";
import { isWhole, laterOf, withState, type RowChange, type RowState } from "./row.js";

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
  /** The revisions at which they were last to be heard, by their ids; 0 for never. */
  readonly rings: ReadonlyMap<string, number>;
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
  | { readonly kind: "changed"; readonly rows: readonly ChangedRow[] }
  | { readonly kind: "seen" | "caughtUp" | "heartbeat" }
  | { readonly kind: "reset"; readonly epoch: string }
  /** Come back after so many milliseconds. */
  | { readonly kind: "reconnect"; readonly after: number }
  /** Of a kind that came after this client was made. */
  | { readonly kind: "unknown" };

/** A row that changed, and the row itself where a screen may not have it. */
export interface ChangedRow extends RowState {
  readonly whole?: Notification;
}

/** All there is to know of an inbox: what is kept, and what tabs tell each other. */
export interface State extends Listed {
  /** The life of the store that all of this belongs to. */
  readonly epoch: string;
  /** Where the stream resumes; nothing when the inbox has to be loaded. */
  readonly position: number | undefined;
  /** The list is whole up to this revision, by the stream or by what was asked for. */
  readonly reached: number;
  readonly head: Head;
}

/** All but the list. */
type Rest = Omit<State, keyof Listed>;

/** What a message did. */
export interface Effect {
  /** `load`: the stream cannot go on from here; load, then subscribe after that. */
  readonly then: "continue" | "load";
  /** A notification that is new to this screen: announce it. */
  readonly ring?: Notification;
}

const NOTHING: Effect = { then: "continue" };
const LOAD: Effect = { then: "load" };
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
  readonly #list: List;
  #rest: Rest = UNKNOWN;
  /** The same object until something changes. */
  #state = UNKNOWN;
  #listed: Listed | undefined;
  /** The highest position of all streams since the load. One that takes over begins
   * below it: what was told before comes once more, and is silent. */
  #told = 0;
  /** The latest of rows, of this list or not, that came and was not yet taken. */
  readonly #news = new Map<string, RowChange>();

  /** Its list holds so many rows, and the pages that are loaded after the first. */
  constructor(window: number) {
    this.#list = new List((row) => answers({}, row), window);
    this.#list.adopt(UNKNOWN);
  }

  get state(): State {
    const { listed } = this.#list;
    const { rows, oldest, nextPageToken } = listed;
    if (listed !== this.#listed) this.#state = { ...this.#rest, rows, oldest, nextPageToken };
    this.#listed = listed;
    return this.#state;
  }

  /** Goes up whenever the list is replaced: what changed in between may be unknown. */
  get life(): number {
    return this.#list.life;
  }

  /** Answers with what changed in rows since it was last asked, of this list or not. */
  takeNews(): readonly RowChange[] {
    const news = [...this.#news.values()];
    this.#news.clear();
    return news;
  }

  /** Forgets everything. */
  drop(): void {
    this.adopt(UNKNOWN);
  }

  /** Takes a state that was kept, or that another tab had, in place of its own. */
  adopt(state: State): void {
    const { rows, oldest, nextPageToken, ...rest } = state;
    this.#list.adopt({ rows, oldest, nextPageToken });
    this.#rest = rest;
    this.#state = state;
    this.#listed = this.#list.listed;
    this.#told = state.position ?? state.head.revision;
    this.#news.clear();
  }

  /** The position is of no use: the inbox is to be loaded. */
  unplace(): void {
    this.#change({ position: undefined });
  }

  /** Takes the first page, asked for without a token, in place of its list. */
  load(page: Page): void {
    const former = this.#rest;
    const { epoch, head } = page;
    const { revision } = head;
    this.#list.load(page, revision);
    this.#change({ epoch, position: revision, reached: revision, head });
    this.#told = revision;
    // An answer may be older than one that came before it.
    if (former.epoch === epoch) this.observe(former.head);
  }

  /** Folds one message of the stream. */
  apply(message: Message): Effect {
    const { position } = this.#rest;
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
        effect = this.#take(message, event.notification);
        break;
      case "changed":
        for (const row of event.rows) {
          const { ring } = this.#take(message, row.whole ?? row);
          if (ring) effect = { ...effect, ring };
        }
        break;
      case "reset":
        // A head below what was seen is of another life too, whatever it is called.
        if (this.#isForeign(event.epoch) || message.head.revision < this.#rest.head.revision) {
          return this.#dropAndLoad();
        }
        effect = LOAD;
        break;
      case "unknown":
        if (above) effect = LOAD;
    }
    this.observe(message.head);
    if (effect.then === "load") this.unplace();
    else this.#change({ position: reached, reached: Math.max(this.#rest.reached, reached) });
    this.#told = Math.max(this.#told, reached);
    return effect;
  }

  /** Takes the head of an answer. It orders the counts and moves no position. */
  observe(head: Head): void {
    if (head.revision > this.#rest.head.revision) this.#change({ head });
  }

  /** Loads older rows, which `ask` asks for. */
  more(pageSize: number, ask: (request: PageRequest) => Promise<Page>): Promise<void> {
    return this.#list.more(pageSize, ask, (page) => {
      if (page.epoch !== this.#rest.epoch) return false;
      this.observe(page.head);
      return true;
    });
  }

  /** Takes the first page as a poll finds it, which moves no position: a stream that
   * resumes there brings all else. Answers with what was to be heard since and still is,
   * newest first. */
  addPolled(page: Page): readonly Notification[] {
    const { rows, oldest } = this.#list.listed;
    const { revision, seenThrough } = page.head;
    const found = page.notifications;
    const last = found.at(-1)?.sequence ?? 0;
    const newest = rows[0]?.sequence ?? 0;
    if (page.epoch !== this.#rest.epoch) {
      this.drop();
      this.load(page);
      return [];
    }
    // Up to there all is known: what is not listed then left the inbox, and may come back.
    const former = Math.max(this.#told, this.#rest.reached, newest);
    if (page.nextPageToken !== "" && last > newest) {
      // Between the page and the list there is more.
      this.load(page);
    } else {
      // Down to its last row the page is all there is.
      const lowest = page.nextPageToken === "" ? 0 : last;
      const ids = new Set(found.map(({ id }) => id));
      this.#list.keep(
        (row) => row.sequence < lowest || row.revision > revision || ids.has(row.id),
      );
      for (const row of found) if (row.sequence >= oldest) this.#list.take(row);
      for (const row of found) this.#note(row);
      this.#change({ reached: Math.max(this.#rest.reached, revision) });
      this.observe(page.head);
    }
    // When the person looked says nothing of what was corrected since it was sent.
    return found.filter(({ id, sequence, readAt }) => {
      const rang = page.rings.get(id) ?? 0;
      return rang > former && !readAt && (sequence > seenThrough || rang > sequence);
    });
  }

  #change(part: Partial<Rest>): void {
    const keys = Object.keys(part) as (keyof Rest)[];
    if (keys.every((key) => part[key] === this.#rest[key])) return;
    this.#rest = { ...this.#rest, ...part };
    this.#listed = undefined;
  }

  #note(change: RowChange): void {
    const former = this.#news.get(change.id);
    this.#news.set(change.id, former ? laterOf(former, change) : change);
  }

  #isForeign(epoch: string): boolean {
    return isLoaded(this.#rest) && this.#rest.epoch !== epoch;
  }

  #dropAndLoad(): Effect {
    this.drop();
    return LOAD;
  }

  /** Takes a row of a message, and says whether that is to be heard. */
  #take({ ring }: Message, change: RowChange): Effect {
    const held = this.#list.find(change);
    if (held && change.revision <= held.revision) {
      // A page may have brought it to this list alone.
      this.#note(held);
      return NOTHING;
    }
    // Who has the content tells it: other lists may lack it.
    const row = isWhole(change) ? change : held && withState(held, change);
    this.#note(row ?? change);
    const isChanged = this.#list.take(row ?? change, this.#rest.position);
    const isHeard = ring && isChanged && change.revision > this.#told;
    const isListed = row !== undefined && this.#list.find(row) === row;
    return isHeard && isListed ? { then: "continue", ring: row } : NOTHING;
  }
}

/** Whether there is a list to show. A list outlives its position. */
export function isLoaded({ epoch }: Pick<State, "epoch">): boolean {
  return epoch !== "";
}

/** The state with a head that an answer brought, where that is later. */
export function observed(state: State, head: Head): State {
  return head.revision > state.head.revision ? { ...state, head } : state;
}
