// What is kept of an inbox in the browser, only for the user who is there: rows and
// position in one record, so that they are of one moment or not there at all, and the
// marks that the service has yet to take.

import type { State } from "./fold.js";
import { isHeld, type Held } from "./marks.js";
import type { InboxStorage } from "./outside.js";

/** Of all that tabs and page loads hand on to each other. */
export const VERSION = 4;
/** More rows are not kept: the rest is loaded when somebody scrolls there. */
const MOST_ROWS = 100;

/** An inbox that was kept, and whose the tokens said it was. */
export interface Kept {
  readonly state: State;
  readonly whose: string | undefined;
}

/** The records of one user's inbox. Without storage it keeps nothing. */
export class Shelf {
  #storage: InboxStorage | undefined;
  readonly #prefix: string;
  readonly #key: string;
  /** Each tab has a record of its marks. */
  readonly #marksKey: string;

  constructor(storage: InboxStorage | undefined, service: string, user: string) {
    this.#storage = storage;
    this.#prefix = `doorbell:${service}:`;
    this.#key = this.#prefix + user;
    this.#marksKey = `${this.#key}:marks:${Math.random().toString(36)}`;
  }

  /** What was kept. Records of other users of this service are removed. */
  take(): Kept | undefined {
    this.#remove((key) => key !== this.#key && !key.startsWith(`${this.#key}:`));
    try {
      const text = this.#storage?.getItem(this.#key);
      const [version, whose, state] = JSON.parse(text ?? "[]") as [number, string | null, State];
      return version === VERSION ? { state, whose: whose ?? undefined } : undefined;
    } catch {
      return undefined;
    }
  }

  /** Keeps a state, or nothing where it has no position. */
  put(state: State, whose: string | undefined): void {
    const rows = state.rows.slice(0, MOST_ROWS);
    const isWhole = rows.length === state.rows.length;
    const oldest = isWhole ? state.oldest : (rows.at(-1)?.sequence ?? state.oldest);
    const short = isWhole ? state : { ...state, rows, oldest, nextPageToken: "" };
    const isKept = state.position !== undefined;
    this.#put(this.#key, isKept ? [VERSION, whose ?? null, short] : undefined);
  }

  /** The marks that were yet to be sent, of all tabs that there were. This tab has them
   * now. To send one twice does no harm. */
  takeMarks(): readonly Held[] {
    const found: Held[] = [];
    this.#remove((key, text) => {
      if (!key.startsWith(`${this.#key}:marks:`)) return false;
      try {
        found.push(...(JSON.parse(text) as unknown[]).filter(isHeld));
      } catch {
        // It is not what was put there.
      }
      return true;
    });
    return found;
  }

  /** Keeps the marks that are yet to be sent. */
  putMarks(held: readonly Held[]): void {
    this.#put(this.#marksKey, held.length > 0 ? held : undefined);
  }

  /** Removes all there is of this user, and keeps nothing from now on. */
  forget(): void {
    this.#remove((key) => key === this.#key || key.startsWith(`${this.#key}:`));
    this.#storage = undefined;
  }

  #put(key: string, value: unknown): void {
    try {
      if (value !== undefined) {
        this.#storage?.setItem(key, JSON.stringify(value));
        return;
      }
    } catch {
      // There is no room, or storing is forbidden: then nothing old may stay.
    }
    try {
      this.#storage?.removeItem(key);
    } catch {
      // Nothing can be done, and nothing was kept.
    }
  }

  /** Removes records of this service. */
  #remove(isOut: (key: string, text: string) => boolean): void {
    try {
      const storage = this.#storage;
      if (!storage) return;
      // Those that there were: an app may answer with what changes as keys are removed.
      for (const key of [...storage.keys()]) {
        if (!key.startsWith(this.#prefix)) continue;
        if (isOut(key, storage.getItem(key) ?? "")) storage.removeItem(key);
      }
    } catch {
      // Access can be forbidden: then nothing is there.
    }
  }
}
