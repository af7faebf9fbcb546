// The token of the user: kept while it is good, asked for once however many need it.

import { expiryOf, isJwt } from "./identity.js";
import { TokenError } from "./problem.js";
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

  /** `took` is called with each token before anybody uses it; where it throws nobody
   * does. */
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
      const isAwaited = () => this.#question === question;
      if (isAwaited()) this.#took(token);
      // Who was told whose it is may have switched to another user.
      if (isAwaited()) this.#token = token;
      else if (this.#token !== token) {
        // The answer to a question of before: it may be somebody else's.
        throw new TokenError("The token came too late.");
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
    let answer: unknown;
    try {
      answer = await within(Promise.resolve(this.#getToken(fresh)), ANSWER_MS, "getToken");
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new TokenError(`getToken failed: ${why}. It is asked again.`, { cause: error });
    }
    const token = typeof answer === "string" ? answer.trim() : "";
    if (isJwt(token)) return token;
    // What it is instead may be a secret: it is not told.
    const what =
      token === "" ? "nothing" : token.startsWith("<") ? "a page of HTML" : "what is no JWT";
    throw new TokenError(
      `getToken gave ${what} in place of a token. Let it look at the answer's ok, and reject where there is no token. It is asked again.`,
    );
  }
}
