// A tab that shows what the one with the stream tells.

import { after, merged } from "./change.js";
import { isLoaded, observed, type Head, type State } from "./fold.js";
import type { Group, Ring, Standing, Word } from "./group.js";
import type { Problem, Status } from "./snapshot.js";
import type { House, Known, Source } from "./source.js";
import { within } from "./wait.js";

/** Another tab has so long to load a page. */
const MORE_MS = 10_000;

/** An inbox that another tab has the stream of. */
export class Follower implements Source {
  state: State;
  status: Status;
  problem: Problem | undefined;
  readonly #house: House;
  readonly #group: Group;
  /** What the leader calls the state that is here. */
  #version: string | undefined;
  /** What is to be announced, once the list has it. */
  readonly #rings: Ring[] = [];
  /** Those who wait for a page. */
  readonly #waiting = new Set<() => void>();
  /** It may be another user's inbox now: nothing is announced any more. */
  #hasEnded = false;

  constructor(house: House, group: Group, known: Known) {
    this.#house = house;
    this.#group = group;
    this.state = known.state;
    this.status = known.status;
    this.problem = known.problem;
  }

  /** The list is the group's: who holds the stream loads the page. */
  async more(): Promise<void> {
    const came = new Promise<void>((done) => this.#waiting.add(done));
    this.#group.say({ kind: "more" });
    await within(came, MORE_MS, "the tab that holds the stream");
  }

  retry(): void {
    this.#group.say({ kind: "retry" });
  }

  observe(head: Head): void {
    this.state = observed(this.state, head);
  }

  reload(): void {
    this.#group.say({ kind: "reload" });
  }

  show(): void {}
  network(): void {}
  offer(): void {}

  hear(word: Word): void {
    if (word.kind === "leader") this.#follow(word);
  }

  end(): void {
    this.#hasEnded = true;
    this.#arrived();
  }

  #follow({ status, problem, version, news, others, isGap, rings }: Standing): void {
    const { oldest, epoch, head } = this.state;
    const isNew = version !== this.#version;
    this.#rings.push(...rings);
    if (isNew) {
      if (!("from" in news)) this.#takeWhole(news);
      else if (news.from === this.#version) {
        this.state = after(this.state, news.change);
        this.#house.news([...news.change.rows, ...others], isGap);
      } else {
        // A word was missed, or it is another leader's.
        this.#group.say({ kind: "who" });
        return;
      }
      this.#version = version;
      // A mark that was made here may have brought a later count.
      if (epoch === this.state.epoch) this.observe(head);
    }
    // An answer to another tab's question, mostly: there is nothing new in it.
    const isSame = status === this.status && problem?.message === this.problem?.message;
    if (!isNew && isSame) return;
    this.status = status;
    this.problem = problem;
    if (this.state.oldest !== oldest) this.#arrived();
    this.#house.changed();
    for (const { ids, how } of this.#rings.splice(0)) {
      // Who was told may have switched to another user.
      if (this.#hasEnded) return;
      const wanted = new Set(ids);
      const rows = this.state.rows.filter(({ id }) => wanted.has(id)).reverse();
      if (rows.length > 0) this.#house.ring(rows, how, false);
    }
  }

  #takeWhole(next: State): void {
    // What is shown stays until the leader has something.
    if (!isLoaded(next)) return;
    const { epoch, position } = this.state;
    this.state = merged(this.state, next);
    const isOther = epoch !== next.epoch || position === undefined || next.position === undefined;
    // What came in between was told to nobody here.
    this.#house.news([], isOther || next.position > position);
  }

  #arrived(): void {
    for (const done of this.#waiting) done();
    this.#waiting.clear();
  }
}
