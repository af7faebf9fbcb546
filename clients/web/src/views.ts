// All that is open on an inbox: its views, and its counters of types.

import type { InboxView, TypeCounter } from "./client.js";
import { Counter } from "./counter.js";
import type { Notification } from "./notification.js";
import type { Question } from "./question.js";
import { isWhole, laterOf, type RowChange } from "./row.js";
import { View, type Desk, type Open } from "./view.js";

export class Views {
  readonly #desk: Desk;
  readonly #open = new Set<Open>();

  constructor(desk: Desk) {
    this.#desk = desk;
  }

  view(question: Question): InboxView {
    const view = new View(this.#desk, question);
    this.#open.add(view);
    return view.client(() => this.#open.delete(view));
  }

  countTypes(types: readonly string[]): TypeCounter {
    const counter = new Counter(this.#desk, types);
    this.#open.add(counter);
    return counter.client(() => this.#open.delete(counter));
  }

  /** The rows of each. */
  get rows(): readonly (readonly Notification[])[] {
    return [...this.#open].map(({ rows }) => rows);
  }

  /** Takes what changed in rows of the inbox; where there was a gap, there was more. */
  take(changes: readonly RowChange[], isGap: boolean): void {
    if (this.#open.size === 0) return;
    const known = changes.map((change) => this.#whole(change));
    for (const open of this.#open) open.take(known, isGap);
  }

  changed(): void {
    for (const open of this.#open) open.changed();
  }

  wake(): void {
    for (const open of this.#open) open.wake();
  }

  drop(): void {
    for (const open of this.#open) open.drop();
  }

  /** What one of them has the content of goes whole to all. */
  #whole(change: RowChange): RowChange {
    if (isWhole(change)) return change;
    for (const rows of this.rows) {
      const held = rows.find(({ id }) => id === change.id);
      if (held) return laterOf(held, change);
    }
    return change;
  }
}
