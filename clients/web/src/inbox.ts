// The inbox of one user, for a page: what is shown, and what can be done with it.

import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  ConnectError,
  createClient,
  type CallOptions,
  type Client,
  type Transport,
} from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { callOptions, Connection, type Status } from "./connection.js";
import { cureOf } from "./error.js";
import { Fold, type State } from "./fold.js";
import { NotificationService, type Notification } from "./gen/doorbell/v1/notifications_pb.js";
import { Group, type Browser, type Word } from "./group.js";
import { identityOf, type ClaimNames } from "./identity.js";
import { decode, encode, Kept } from "./kept.js";
import { TokenSource } from "./token.js";

/** What an inbox is made from. */
export interface InboxOptions {
  /** Where the service is: `https://doorbell.example.com`. */
  readonly baseUrl: string;
  /**
   * Answers with a token of the user, within half a minute. It is asked again before
   * the last one ends, and when one was refused; `fresh` then says that the last will
   * not do.
   */
  readonly getToken: (fresh: boolean) => string | Promise<string>;
  /** How many notifications a page has; 20, at most 100. */
  readonly pageSize?: number;
  /** How often is asked while no tab is visible, in milliseconds; a minute. */
  readonly pollInterval?: number;
  /** How long all tabs may be hidden before the stream is given up; 5 seconds. */
  readonly hiddenGrace?: number;
  /** Whether tabs of one user share a stream; true. */
  readonly shareTabs?: boolean;
  /** Whether the inbox is kept in this browser for the next page load; true. */
  readonly persist?: boolean;
  /** The claims of the token that say whose it is, where they are named otherwise. */
  readonly claims?: Partial<ClaimNames>;
  /** In place of gRPC-web over `fetch`: for tests. */
  readonly transport?: Transport;
  /** In place of `Math.random`: for tests. */
  readonly random?: () => number;
}

/** The inbox at one moment. It is replaced, never changed. */
export interface Snapshot {
  /** Newest first; those that were archived are not in it. */
  readonly notifications: readonly Notification[];
  /** Exact, however many are listed. */
  readonly unreadCount: number;
  /** The change of the inbox that the count belongs to. */
  readonly revision: bigint;
  readonly status: Status;
  /** Why it failed, or what stands in the way; nothing when all is well. */
  readonly error: unknown;
  /** Whether there is a list: empty or not, but no longer unknown. */
  readonly isLoaded: boolean;
  /** Whether `loadMore` would find older ones. */
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
}

/** An inbox that stays in step with the service while it is started. */
export interface Inbox {
  /** Begins, or goes on. */
  start(): void;
  /** Ends the stream, and leaves the other tabs to themselves. */
  stop(): void;
  /** Calls `listener` after a change, at once or, of several, within 50 ms; answers
   * what ends that. */
  subscribe(listener: () => void): () => void;
  /** The inbox now: the same object until something changes. */
  getSnapshot(): Snapshot;
  /** Shows them as read at once, and tells the service. Rejects, and shows them as
   * they were, where that fails. */
  markRead(ids: readonly string[]): Promise<void>;
  /** Loads the page after the last. */
  loadMore(): Promise<void>;
  /** Tries again now, in place of waiting, also after it failed. */
  retry(): void;
  /** Calls `announce` for what is new while it happens, and for nothing that was
   * only missed; answers what ends that. */
  onNotification(announce: (notification: Notification) => void): () => void;
}

const CLAIMS: ClaimNames = { organization: "organizationId", user: "userId" };
/** As many as one call takes. */
const MOST_MARKED = 500;
/** The state is kept so long after it changed: a burst is one write. */
const KEEP_MS = 200;
/** Another tab has so long to load a page. */
const MORE_MS = 10_000;
/** What comes within so long after a change is told as one. */
const GATHER_MS = 50;
/** The most rows that one call answers with. */
const LONGEST_PAGE = 100;

/** Makes an inbox; `start` begins. */
export function createInbox(options: InboxOptions): Inbox {
  return new LiveInbox(options);
}

class LiveInbox implements Inbox {
  readonly #options: InboxOptions;
  readonly #client: Client<typeof NotificationService>;
  readonly #listeners = new Set<() => void>();
  readonly #announcers = new Set<(notification: Notification) => void>();
  readonly #fold = new Fold();
  readonly #tokens: TokenSource;
  readonly #connection: Connection;
  /** Marked here, and not yet known to be marked there: `undefined` until the
   * service answered, then the revision of its answer. */
  readonly #marking = new Map<string, bigint | undefined>();
  #snapshot: Snapshot | undefined;
  #status: Status = "idle";
  #error: unknown;
  #isLoadingMore = false;
  /** To be announced, once the list has them. */
  readonly #rings: Notification[] = [];
  /** Announced here, and not yet in the other tabs. */
  #untold: Notification[] = [];
  #gathering: ReturnType<typeof setTimeout> | undefined;
  /** Whether something changed since it was last told. */
  #isBehind = false;
  /** From taking its place among the tabs to giving it up. */
  #place: AbortController | undefined;
  #identity: string | undefined;
  #kept: Kept | undefined;
  #keeping: ReturnType<typeof setTimeout> | undefined;
  #group: Group | undefined;
  /** Whether this tab holds the stream, or would. */
  #leads = false;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #started: AbortController | undefined;
  #document: Document | undefined;

  constructor(options: InboxOptions) {
    this.#options = options;
    const transport = options.transport ?? createGrpcWebTransport({ baseUrl: options.baseUrl });
    this.#client = createClient(NotificationService, transport);
    this.#tokens = new TokenSource(options.getToken, (token) => this.#identify(token));
    this.#connection = new Connection({
      client: this.#client,
      fold: this.#fold,
      pageSize: options.pageSize ?? 20,
      pollMs: options.pollInterval ?? 60_000,
      random: options.random ?? Math.random,
      token: (fresh) => this.#tokens.get(fresh),
      isOnline: () => globalThis.navigator?.onLine ?? true,
      changed: (status, error) => this.#changed(status, error),
      ring: (notification) => this.#rings.push(notification),
    });
  }

  start(): void {
    if (this.#started) return;
    const started = new AbortController();
    this.#started = started;
    const { signal } = started;
    const listen = (target: EventTarget | undefined, event: string, act: () => void) =>
      target?.addEventListener(event, act, { signal });
    const { document, window } = globalThis as Partial<typeof globalThis>;
    this.#document = document;
    listen(document, "visibilitychange", () => this.#shown());
    listen(window, "online", () => this.#connection.retry());
    listen(window, "offline", () => this.#connection.interrupt());
    // A page that may come back from the browser's cache holds nothing meanwhile.
    listen(window, "pagehide", () => this.#suspend());
    listen(window, "pageshow", () => this.#resume());
    // Nor does one that the browser freezes in the background.
    listen(document, "freeze", () => this.#suspend());
    listen(document, "resume", () => this.#resume());
    this.#set("connecting");
    this.#resume();
  }

  stop(): void {
    this.#started?.abort();
    this.#started = undefined;
    this.#tokens.forget();
    this.#suspend();
    this.#set("idle");
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onNotification(announce: (notification: Notification) => void): () => void {
    this.#announcers.add(announce);
    return () => this.#announcers.delete(announce);
  }

  getSnapshot(): Snapshot {
    this.#snapshot ??= this.#view();
    return this.#snapshot;
  }

  async markRead(ids: readonly string[]): Promise<void> {
    const unread = new Set(this.#fold.rows.filter((row) => !row.readAt).map((row) => row.id));
    const held = new Set(this.#fold.rows.map((row) => row.id));
    // What is not in the list may be unread as well; what is read is left alone.
    const wanted = [...new Set(ids)].filter((id) => unread.has(id) || !held.has(id));
    const marked = wanted.filter((id) => !this.#marking.has(id));
    const identity = this.#identity;
    for (const id of marked) this.#marking.set(id, undefined);
    this.#update();
    try {
      for (let from = 0; from < marked.length; from += MOST_MARKED) {
        const notificationIds = marked.slice(from, from + MOST_MARKED);
        const reply = await this.#call((options) =>
          this.#client.markRead({ notificationIds }, options),
        );
        // Meanwhile it may have become somebody else's inbox.
        if (identity !== this.#identity) return;
        for (const id of notificationIds) this.#marking.set(id, reply.revision);
        this.#fold.observe(reply.revision, reply.unreadCount);
        this.#update();
      }
    } catch (error) {
      for (const id of marked) {
        if (this.#marking.get(id) === undefined) this.#marking.delete(id);
      }
      this.#update();
      throw error;
    }
  }

  async loadMore(): Promise<void> {
    if (this.#isLoadingMore || !this.getSnapshot().hasMore) return;
    this.#isLoadingMore = true;
    this.#update();
    try {
      if (this.#leads) await this.#loadPage();
      else await this.#askForPage();
    } finally {
      this.#isLoadingMore = false;
      this.#update();
    }
  }

  retry(): void {
    if (!this.#leads) this.#group?.say({ kind: "retry" });
    else if (this.#status === "failed") {
      this.#tokens.forget();
      this.#suspend();
      this.#resume();
    } else this.#connection.retry();
  }

  // What is shown.

  #view(): Snapshot {
    const fold = this.#fold;
    const readAt = timestampNow();
    const isMarked = (row: Notification) => !row.readAt && this.#marking.has(row.id);
    return {
      notifications: fold.rows.map((row) => (isMarked(row) ? { ...row, readAt } : row)),
      // The service's, which the answer to a mark brings: nothing is reckoned here.
      unreadCount: fold.unreadCount,
      revision: fold.revision,
      status: this.#status,
      error: this.#error,
      isLoaded: fold.isLoaded,
      hasMore: fold.isLoaded && fold.oldest > 0n,
      isLoadingMore: this.#isLoadingMore,
    };
  }

  /** Something changed. */
  #update(): void {
    this.#outdate();
    for (const listener of this.#listeners) safely(listener);
  }

  #outdate(): void {
    const { position = 0n } = this.#fold;
    for (const [id, revision] of this.#marking) {
      // The stream has delivered it: the row says so itself, or is gone.
      if (revision !== undefined && position >= revision) this.#marking.delete(id);
    }
    this.#snapshot = undefined;
  }

  #set(status: Status, error?: unknown): void {
    this.#status = status;
    this.#error = error;
    this.#update();
  }

  #announce(notification: Notification): void {
    for (const announce of this.#announcers) safely(() => announce(notification));
  }

  // The one tab that holds the stream.

  /** The connection changed the fold or its own status. */
  #changed(status: Status, error?: unknown): void {
    this.#status = status;
    this.#error = error;
    this.#outdate();
    for (const notification of this.#rings.splice(0)) {
      this.#untold.push(notification);
      this.#announce(notification);
    }
    this.#isBehind = true;
    if (this.#gathering === undefined) this.#gather();
    this.#keeping ??= setTimeout(() => this.#keep(), KEEP_MS);
  }

  /** Tells what changed, and then waits: a replay is thousands of messages. */
  #gather(): void {
    this.#gathering = undefined;
    if (!this.#isBehind) return;
    this.#gathering = setTimeout(() => this.#gather(), GATHER_MS);
    this.#tellAll();
  }

  /** Tells everybody, here and in the other tabs. */
  #tellAll(): void {
    if (!this.#isBehind) return;
    this.#isBehind = false;
    this.#tell();
    for (const { id } of this.#untold.splice(0)) this.#group?.say({ kind: "ring", id });
    this.#update();
  }

  #keep(): void {
    clearTimeout(this.#keeping);
    this.#keeping = undefined;
    if (this.#leads) this.#kept?.put(this.#fold.state());
  }

  #encoded(): string | undefined {
    const state = this.#fold.state();
    return state && encode(state);
  }

  #tell(): void {
    if (!this.#leads || !this.#group) return;
    this.#group.say({ kind: "state", state: this.#encoded(), status: this.#status });
  }

  /** Loads older ones, until there is one or no more. */
  async #loadPage(): Promise<void> {
    const fold = this.#fold;
    const { length } = fold.rows;
    do {
      const { life, nextPageToken: pageToken } = fold;
      // A list that was shortened when it was kept knows no token for what follows:
      // it begins at the top, and soon comes to what it does not have.
      const limit = pageToken ? (this.#options.pageSize ?? 20) : LONGEST_PAGE;
      fold.beginPage();
      try {
        const page = await this.#call((options) =>
          this.#client.getRecent({ limit, pageToken }, options),
        );
        if (!fold.addPage(page, life)) break;
      } finally {
        fold.endPage();
      }
    } while (fold.rows.length === length && fold.nextPageToken);
    this.#tell();
  }

  /** The list is the group's: who holds the stream loads the page. */
  async #askForPage(): Promise<void> {
    const before = this.#fold.rows.length;
    this.#group?.say({ kind: "more" });
    await new Promise<void>((done) => {
      const timer = setTimeout(() => end(), MORE_MS);
      const forget = this.subscribe(() => {
        if (this.#fold.rows.length !== before || this.#leads) end();
      });
      const end = () => {
        clearTimeout(timer);
        forget();
        done();
      };
    });
  }

  // Whose inbox it is, and which tab leads.

  /** A token of somebody else: nothing of the former user stays. */
  #identify(token: string): void {
    const identity = identityOf(token, { ...CLAIMS, ...this.#options.claims });
    if (identity === this.#identity) return;
    if (this.#identity !== undefined) {
      this.#fold.drop();
      this.#marking.clear();
    }
    this.#identity = identity;
    this.#kept = undefined;
    if (this.#leads || this.#group) {
      // It goes on among the tabs of that user, and with nothing of the former.
      this.#suspend();
      queueMicrotask(() => this.#resume());
    }
    if (identity !== undefined && (this.#options.persist ?? true)) {
      this.#kept = new Kept(storage(), this.#options.baseUrl, identity);
      const state = this.#kept.take();
      if (state && this.#fold.position === undefined) this.#fold.adopt(state);
      this.#update();
    }
  }

  #isVisible(): boolean {
    return this.#document?.visibilityState !== "hidden";
  }

  /** Takes its place among the tabs, or begins alone where there is no such thing. */
  #resume(): void {
    if (!this.#started || this.#place) return;
    this.#place = new AbortController();
    void this.#enter(this.#place.signal);
  }

  async #enter(signal: AbortSignal): Promise<void> {
    try {
      await this.#tokens.get(false);
    } catch (error) {
      // The connection asks for it again, and waits as it does for the service.
      if (!signal.aborted) this.#set("reconnecting", error);
    }
    if (signal.aborted) return;
    if (this.#identity !== undefined && (this.#options.shareTabs ?? true)) {
      const name = `doorbell:${this.#options.baseUrl}:${this.#identity}`;
      const member = {
        lead: (leads: boolean) => this.#lead(leads),
        hear: (word: Word) => this.#hear(word),
      };
      this.#group = Group.join(browser(), name, member, this.#isVisible());
    }
    if (!this.#group) this.#lead(true);
  }

  #suspend(): void {
    clearTimeout(this.#hiding);
    this.#place?.abort();
    this.#place = undefined;
    this.#connection.stop();
    this.#keep();
    this.#tellAll();
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    this.#leads = false;
    this.#group?.leave();
    this.#group = undefined;
  }

  #lead(leads: boolean): void {
    this.#leads = leads;
    clearTimeout(this.#hiding);
    if (!leads) {
      this.#connection.stop();
      return;
    }
    this.#connection.start(!this.#isVisible());
    this.#sayLeader();
  }

  #sayLeader(): void {
    this.#group?.say({
      kind: "leader",
      visible: this.#isVisible(),
      state: this.#encoded(),
      status: this.#status,
    });
  }

  /** This tab was shown or hidden. */
  #shown(): void {
    const visible = this.#isVisible();
    this.#group?.show(visible);
    if (!this.#leads) return;
    clearTimeout(this.#hiding);
    // A visible tab that hears this takes the lead.
    this.#sayLeader();
    if (visible) this.#connection.start(false);
    else {
      const grace = this.#options.hiddenGrace ?? 5000;
      this.#hiding = setTimeout(() => this.#connection.start(true), grace);
    }
  }

  /** Another tab said something. */
  #hear(word: Word): void {
    switch (word.kind) {
      case "who":
        if (this.#leads) this.#sayLeader();
        break;
      case "leader":
      case "state":
        if (!this.#leads) this.#follow(word.state, word.status as Status);
        break;
      case "ring": {
        const row = this.#fold.rows.find((held) => held.id === word.id);
        if (row && !this.#leads) this.#announce(row);
        break;
      }
      case "more":
        if (this.#leads) {
          const loaded = this.#loadPage().catch(() => this.#tell());
          void loaded.then(() => this.#update());
        }
        break;
      case "retry":
        if (this.#leads) this.retry();
    }
  }

  #follow(text: string | undefined, status: Status): void {
    const state: State | undefined = text === undefined ? undefined : decode(text);
    if (state) this.#fold.adopt(state);
    this.#set(status);
  }

  /** A call with the token there is, and once more with another where it is refused. */
  async #call<T>(call: (options: CallOptions) => Promise<T>): Promise<T> {
    try {
      return await call(callOptions(await this.#tokens.get(false)));
    } catch (error) {
      if (cureOf(error) !== "token") throw ConnectError.from(error);
      return await call(callOptions(await this.#tokens.get(true)));
    }
  }
}

/** Calls what the page gave: an error in it is the page's, and ends no stream. */
function safely(call: () => void): void {
  try {
    call();
  } catch (error) {
    console.error(error);
  }
}

function storage(): Storage | undefined {
  try {
    return globalThis.localStorage;
  } catch {
    // Access can be forbidden, which throws.
    return undefined;
  }
}

function browser(): Browser {
  return {
    locks: globalThis.navigator?.locks,
    channel:
      typeof BroadcastChannel === "undefined" ? undefined : (name) => new BroadcastChannel(name),
  };
}

