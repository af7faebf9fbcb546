// How many are unread of some types: asked for, and again when something of them changed.

import { Asker } from "./asker.js";
import type { TypeCounter } from "./client.js";
import { Listeners } from "./listeners.js";
import { isWhole, type RowChange } from "./row.js";
import type { TypeCounts } from "./snapshot.js";
import type { Desk, Open } from "./view.js";

const UNKNOWN: TypeCounts = {};

export class Counter implements Open {
  readonly rows = [];
  readonly #desk: Desk;
  readonly #types: readonly string[];
  readonly #asker: Asker;
  readonly #listeners = new Listeners<[TypeCounts]>();
  #counts = UNKNOWN;
  /** What was told. */
  #snapshot = UNKNOWN;

  constructor(desk: Desk, types: readonly string[]) {
    this.#desk = desk;
    this.#types = [...types];
    this.#asker = new Asker({
      random: desk.random,
      isReady: () => desk.isReady(),
      ask: (isOurs) => this.#ask(isOurs),
      problemOf: (error) => desk.problemOf(error),
      changed: () => this.changed(),
    });
    this.#asker.wake();
  }

  /** What the page has of it; `close` is called when that is closed. */
  client(close: () => void): TypeCounter {
    return {
      getSnapshot: () => this.#snapshot,
      subscribe: (listener) => this.#listeners.add(listener, this.#snapshot),
      close: () => {
        this.#asker.close();
        close();
      },
    };
  }

  take(changes: readonly RowChange[], isGap: boolean): void {
    const concerns = (change: RowChange) => !isWhole(change) || this.#types.includes(change.type);
    if (isGap || changes.some(concerns)) this.#asker.refresh();
  }

  changed(): void {
    const next = this.#desk.isKnown() ? this.#counts : UNKNOWN;
    if (next !== this.#snapshot) {
      this.#snapshot = next;
      this.#listeners.tellWhile(() => this.#snapshot === next, next);
    }
    this.#asker.start();
  }

  wake(): void {
    this.#asker.wake();
  }

  drop(): void {
    this.#counts = UNKNOWN;
    this.#asker.drop();
  }

  async #ask(isOurs: () => boolean): Promise<void> {
    const { client, call } = this.#desk;
    const request = { types: [...this.#types] };
    const { types } = await call(isOurs, (options) => client.getUnreadCount(request, options));
    if (!isOurs()) return;
    const isSame = types.every(({ type, unreadCount, more }) => {
      const known = this.#counts[type];
      return known?.unreadCount === unreadCount && known.hasMore === more;
    });
    if (isSame) return;
    this.#counts = Object.fromEntries(
      types.map(({ type, unreadCount, more: hasMore }) => [type, { unreadCount, hasMore }]),
    );
  }
}
