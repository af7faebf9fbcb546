// What the browser gives a page, and an app without one brings along: the types are of no
// library, so that they hold where there is no DOM.

/** Sends a request as the standard's `fetch` does (https://fetch.spec.whatwg.org), which is
 * given the address and `method`, `headers`, `body`, `signal` and more. */
export type Fetch = (url: string, init: any) => Promise<FetchAnswer>;

/** What of an answer is used. */
export interface FetchAnswer {
  readonly ok: boolean;
  readonly status: number;
  readonly headers: {
    get(name: string): string | null;
    has(name: string): boolean;
  };
  /** The pieces as they come. Where there is none the answer is read as one, once it is
   * whole: then calls are answered, and no stream says a word. */
  readonly body?: { getReader(): PieceReader } | null | undefined;
  arrayBuffer(): Promise<ArrayBuffer>;
}

export interface PieceReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
}

/** Texts that are still there when the app begins anew. What throws is taken as not there. */
export interface InboxStorage {
  keys(): readonly string[];
  getItem(key: string): string | null | undefined;
  setItem(key: string, text: string): void;
  removeItem(key: string): void;
}

/** The browser's, looked for when it is called. */
export const browserFetch: Fetch = (url, init) => globalThis.fetch(url, init);

/** The storage of this browser, where there is one. */
export function browserStorage(): InboxStorage | undefined {
  try {
    const { localStorage } = globalThis as Partial<typeof globalThis>;
    return (
      localStorage && {
        keys: () => Array.from({ length: localStorage.length }, (_, at) => localStorage.key(at) ?? ""),
        getItem: (key) => localStorage.getItem(key),
        setItem: (key, text) => localStorage.setItem(key, text),
        removeItem: (key) => localStorage.removeItem(key),
      }
    );
  } catch {
    // Access can be forbidden, which throws.
    return undefined;
  }
}
