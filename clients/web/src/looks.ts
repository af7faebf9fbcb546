// Up to where the person has looked, while the service has yet to know it.

import type { State } from "./fold.js";
import { cureOf } from "./problem.js";

/** What is told, and held where the service was away. */
interface Look {
  readonly sequence: number;
  readonly epoch: string;
  isHeld: boolean;
}

export class Looks {
  readonly #send: (look: Look, isOurs: () => boolean) => Promise<unknown>;
  #look: Look | undefined;

  /** `send` tells the service, as long as it `isOurs`. */
  constructor(send: (look: Look, isOurs: () => boolean) => Promise<unknown>) {
    this.#send = send;
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

  /** Tells the service; where it is away, once it is there again. */
  async flush(): Promise<void> {
    const look = this.#look;
    if (!look) return;
    const isOurs = () => look === this.#look;
    try {
      await this.#send(look, isOurs);
      if (isOurs()) this.#look = undefined;
    } catch (error) {
      look.isHeld = cureOf(error) === "wait";
      if (look.isHeld) return;
      if (isOurs()) this.#look = undefined;
      throw error;
    }
  }

  /** It is another user's inbox now, or nobody's. */
  drop(): void {
    this.#look = undefined;
  }
}
