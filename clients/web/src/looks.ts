// Up to where the person has looked, while the service has yet to know it.

import { Backoff } from "./backoff.js";
import type { State } from "./fold.js";
import { cureOf, retryDelayOf } from "./problem.js";
import { sleep } from "./wait.js";

/** What is told, and held where the service was away. */
interface Look {
  readonly sequence: number;
  readonly epoch: string;
  isHeld: boolean;
}

/** What looks ask of their owner. */
interface Teller {
  readonly random: () => number;
  /** Tells the service, as long as it `isOurs`. */
  send(look: Look, isOurs: () => boolean): Promise<unknown>;
  /** Whether it is worth to go on trying. */
  isActive(): boolean;
}

export class Looks {
  readonly #teller: Teller;
  readonly #backoff: Backoff;
  #look: Look | undefined;
  #waiting: AbortController | undefined;

  constructor(teller: Teller) {
    this.#teller = teller;
    this.#backoff = new Backoff(teller.random);
  }

  /** All that is listed was looked at. */
  async at({ epoch, head, rows }: State): Promise<void> {
    const sequence = rows[0]?.sequence ?? 0;
    if (head.unseenCount === 0 || sequence <= head.seenThrough) return;
    const look = this.#look;
    const isKnown = look?.epoch === epoch && sequence <= look.sequence;
    if (isKnown && !look.isHeld) return;
    this.#look = { sequence, epoch, isHeld: false };
    await this.flush();
  }

  /** Tells the service; where that fails, again after a while, and once it is there again. */
  async flush(): Promise<void> {
    const look = this.#look;
    if (!look) return;
    this.#waiting?.abort();
    const isOurs = () => look === this.#look;
    try {
      await this.#teller.send(look, isOurs);
      if (!isOurs()) return;
      this.#look = undefined;
      this.#backoff.reset();
    } catch (error) {
      look.isHeld = cureOf(error) === "wait";
      if (look.isHeld) {
        if (isOurs()) void this.#retry(retryDelayOf(error) + this.#backoff.next());
        return;
      }
      if (isOurs()) this.#look = undefined;
      throw error;
    }
  }

  async #retry(wait: number): Promise<void> {
    this.#waiting?.abort();
    const waiting = new AbortController();
    this.#waiting = waiting;
    await sleep(wait, waiting.signal);
    if (waiting.signal.aborted || !this.#teller.isActive()) return;
    await this.flush().catch(() => undefined);
  }

  /** It is another user's inbox now, or nobody's. */
  drop(): void {
    this.#look = undefined;
    this.#waiting?.abort();
  }
}
