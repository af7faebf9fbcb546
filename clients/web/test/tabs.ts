// Tabs of one browser, in one process: locks, channels and storage as they have
// them, but nothing takes time that a test does not let pass.

/** The lock manager of the Web Locks API, as far as it is used. */
export class Locks {
  readonly #held = new Map<string, { reject: (error: Error) => void }>();
  readonly #waiting = new Map<string, (() => void)[]>();
  /** Who waits, or has it. */
  get inUse(): number {
    return this.#held.size + [...this.#waiting.values()].flat().length;
  }

  /** What was asked for. */
  readonly asked: ({ readonly name: string } & LockOptions)[] = [];

  request = async (
    name: string,
    options: LockOptions,
    callback: () => Promise<void> | undefined,
  ): Promise<void> => {
    this.asked.push({ name, ...options });
    if (options.steal) this.#held.get(name)?.reject(new DOMException("stolen", "AbortError"));
    else if (this.#held.has(name)) {
      await new Promise<void>((granted, aborted) => {
        const queue = this.#waiting.get(name) ?? [];
        this.#waiting.set(name, queue);
        queue.push(granted);
        options.signal?.addEventListener("abort", () => {
          queue.splice(queue.indexOf(granted), 1);
          aborted(new DOMException("aborted", "AbortError"));
        });
      });
    }
    const place = { reject: (_: Error) => undefined as void };
    this.#held.set(name, place);
    try {
      await Promise.race([
        // It is told a moment later.
        new Promise((done) => setImmediate(done)).then(callback),
        new Promise<void>((_, reject) => (place.reject = reject)),
      ]);
    } finally {
      if (this.#held.get(name) === place) {
        this.#held.delete(name);
        this.#waiting.get(name)?.shift()?.();
      }
    }
  };
}

/** `localStorage`, with room for so many characters. */
export class Shelf implements Storage {
  readonly #items = new Map<string, string>();
  room = Number.POSITIVE_INFINITY;
  /** How often anything was put there. */
  written = 0;

  get length(): number {
    return this.#items.size;
  }
  key(at: number): string | null {
    return [...this.#items.keys()][at] ?? null;
  }
  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    if (value.length > this.room) throw new Error("there is no room");
    this.written += 1;
    this.#items.set(key, value);
  }
  removeItem(key: string): void {
    this.#items.delete(key);
  }
  clear(): void {
    this.#items.clear();
  }
}

/** A token that names a user, or none, as any issuer makes it; nobody here verifies it.
 * Where it says when it ends, that is in milliseconds. */
export function token(user: string | undefined, ends?: number): string {
  const expiry = ends === undefined ? {} : { exp: Math.floor(ends / 1000) };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ organizationId: "acme", userId: user, ...expiry })}.x`;
}

/** `BroadcastChannel`: to all others of the name, a moment later. */
export class Channel {
  static readonly #open = new Set<Channel>();
  /** How many are open. */
  static get open(): number {
    return Channel.#open.size;
  }

  /** How often anything was said. */
  static said = 0;
  /** And how long it was, as JSON. */
  static bytes = 0;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  /** Its tab does nothing at all: it is frozen, or runs without end. */
  hangs = false;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    Channel.#open.add(this);
  }

  postMessage(message: unknown): void {
    if (this.hangs) return;
    const data: unknown = structuredClone(message);
    Channel.said += 1;
    Channel.bytes += JSON.stringify(message).length;
    for (const other of Channel.#open) {
      if (other === this || other.name !== this.name) continue;
      queueMicrotask(() => {
        if (Channel.#open.has(other) && !other.hangs) other.onmessage?.({ data });
      });
    }
  }

  close(): void {
    Channel.#open.delete(this);
  }
}
