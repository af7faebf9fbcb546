// Lists that come in pages.

/** A page where it is awaited; where it is iterated, all there is from there on, page by
 * page, each asked for when it is needed. Nothing is asked before that. */
export class Pages<Page, Item> implements PromiseLike<Page>, AsyncIterable<Item> {
  readonly #pageAt: (token: string | undefined) => Promise<Page>;

  /** @internal */
  constructor(pageAt: (token: string | undefined) => Promise<Page>) {
    this.#pageAt = pageAt;
  }

  then<A = Page, B = never>(
    onFulfilled?: ((page: Page) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#pageAt(undefined).then(onFulfilled, onRejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    for (let token: string | undefined; token !== ""; ) {
      const page = await this.#pageAt(token);
      const { nextPageToken = "" } = page as { nextPageToken?: string };
      yield* Object.values(page as object).find(Array.isArray) as Item[];
      token = nextPageToken;
    }
  }
}
