// Who is told of changes.

/** Calls what the page gave: an error in it is the page's, and ends no stream. */
export function safely(call: () => void): void {
  try {
    call();
  } catch (error) {
    console.error(error);
  }
}

/** Those who are told. Each call of `add` is one of its own. */
export class Listeners<Said extends readonly unknown[]> {
  readonly #listeners = new Set<{ readonly hear: (...said: Said) => void }>();

  /** Tells it `now`, if there is anything; answers what ends it. */
  add(hear: (...said: Said) => void, ...now: Said | []): () => void {
    const listener = { hear };
    this.#listeners.add(listener);
    if (now.length > 0) safely(() => hear(...(now as Said)));
    return () => void this.#listeners.delete(listener);
  }

  tell(...said: Said): void {
    this.tellWhile(() => true, ...said);
  }

  /** Tells it as long as it holds: who hears it may change that. */
  tellWhile(holds: () => boolean, ...said: Said): void {
    for (const { hear } of this.#listeners) {
      if (!holds()) return;
      safely(() => hear(...said));
    }
  }
}
