// Asks for something that the stream does not bring, and again when that is out of date or
// could not be had.

import { Backoff } from "./backoff.js";
import { retryDelayOf } from "./problem.js";
import type { Problem } from "./snapshot.js";
import { sleep } from "./wait.js";

/** What an asker has from its owner. */
export interface Asked {
  readonly random: () => number;
  /** Whether there is somebody to ask for, and an inbox to ask. */
  isReady(): boolean;
  /** Asks, once; takes the answer unless `isOurs` says that it is of no use any more. */
  ask(isOurs: () => boolean): Promise<void>;
  /** What stands in the way, for who made the page. */
  problemOf(error: unknown): Promise<Problem>;
  changed(): void;
}

/** Between two questions: what changes many times in a moment is asked for once. */
const PAUSE_MS = 250;

export class Asker {
  readonly #asked: Asked;
  readonly #backoff: Backoff;
  /** Whether there is an answer. */
  #isKnown = false;
  #isStale = true;
  #isAsking = false;
  #waiting: AbortController | undefined;
  #problem: Problem | undefined;
  /** Goes up when answers to former questions are of no use. */
  #life = 0;

  constructor(asked: Asked) {
    this.#asked = asked;
    this.#backoff = new Backoff(asked.random);
  }

  /** Whether there was an answer. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** What stands in the way of the answer. */
  get problem(): Problem | undefined {
    return this.#problem;
  }

  /** The answer is out of date. */
  refresh(): void {
    this.#isStale = true;
    this.start();
  }

  /** Asks, if there is anything to ask for. */
  start(): void {
    void this.#run();
  }

  /** The same, and does not wait for a failure to be over. */
  wake(): void {
    this.#waiting?.abort();
    this.start();
  }

  /** There is no answer, and what is on its way is of no use. */
  drop(): void {
    this.#life += 1;
    this.#isKnown = false;
    this.#isStale = true;
    this.#problem = undefined;
    this.#backoff.reset();
    this.#waiting?.abort();
  }

  /** Nothing is asked for any more. */
  close(): void {
    this.drop();
    this.#isStale = false;
  }

  async #run(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (this.#isStale && this.#asked.isReady()) {
      const life = this.#life;
      const isOurs = () => life === this.#life;
      this.#isStale = false;
      let wait = PAUSE_MS;
      try {
        await this.#asked.ask(isOurs);
        if (isOurs()) {
          this.#isKnown = true;
          this.#problem = undefined;
          this.#backoff.reset();
        }
      } catch (error) {
        const problem = await this.#asked.problemOf(error);
        if (isOurs()) {
          this.#isStale = true;
          this.#problem = problem;
          wait = retryDelayOf(error) + this.#backoff.next();
        }
      }
      this.#asked.changed();
      if (!isOurs()) continue;
      this.#waiting = new AbortController();
      await sleep(wait, this.#waiting.signal);
    }
    this.#isAsking = false;
  }
}
