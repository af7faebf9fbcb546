// The token of the user: kept while it is good, asked for once however many need it.

import { expiryOf } from "./identity.js";
import { within } from "./wait.js";

/** A token that ends sooner is not used any more. */
const GOOD_MS = 10_000;
/** The page has so long to answer with one. */
const ANSWER_MS = 30_000;

/** Where tokens come from. */
export class TokenSource {
  readonly #getToken: (fresh: boolean) => string | Promise<string>;
  readonly #took: (token: string) => void;
  #token: string | undefined;
  #question: { readonly answer: Promise<string> } | undefined;

  /** `took` is called with each token before anybody uses it. */
  constructor(
    getToken: (fresh: boolean) => string | Promise<string>,
    took: (token: string) => void,
  ) {
    this.#getToken = getToken;
    this.#took = took;
  }

  /** The token there is where it is good for a while, or another one; with `fresh`
   * always another one. Rejects where none comes in time. */
  async get(fresh: boolean): Promise<string> {
    const held = this.#token;
    const isGood = held !== undefined && expiryOf(held) > Date.now() + GOOD_MS;
    if (isGood && !fresh) return held;
    const question = (this.#question ??= { answer: this.#ask(fresh) });
    try {
      const token = await question.answer;
      if (this.#question === question) {
        this.#token = token;
        this.#took(token);
      } else if (this.#token !== token) {
        // The answer to a question of before: it may be somebody else's.
        throw new Error("the token came too late");
      }
      return token;
    } finally {
      if (this.#question === question) this.#question = undefined;
    }
  }

  /** Forgets the token there is, and the one that is asked for. */
  forget(): void {
    this.#token = undefined;
    this.#question = undefined;
  }

  async #ask(fresh: boolean): Promise<string> {
    return await within(Promise.resolve(this.#getToken(fresh)), ANSWER_MS, "getToken");
  }
}
