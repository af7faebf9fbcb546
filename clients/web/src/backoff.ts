// Full jitter: each wait is spread evenly over zero to a bound that doubles
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/** The waits between attempts that fail one after the other. */
export class Backoff {
  #failures = 0;
  readonly #random: () => number;
  readonly #first: number;
  readonly #longest: number;

  constructor(random: () => number, longest = LONGEST_MS, first = FIRST_MS) {
    this.#random = random;
    this.#longest = longest;
    this.#first = first;
  }

  /** How long to wait after one more failure, in milliseconds. */
  next(): number {
    const bound = Math.min(this.#longest, this.#first * 2 ** this.#failures);
    this.#failures += 1;
    return this.#random() * bound;
  }

  /** The same, but that the first is followed at once. */
  again(): number {
    const isFirst = this.#failures === 0;
    const wait = this.next();
    return isFirst ? 0 : wait;
  }

  /** It works again. */
  reset(): void {
    this.#failures = 0;
  }
}
