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
import { Group, type Browser, type Standing, type Word } from "./group.js";
import { identityOf, type ClaimNames } from "./identity.js";
import { decode, encode, Kept } from "./kept.js";
import { EMPTY, type Snapshot } from "./snapshot.js";
import { TokenSource } from "./token.js";
import { within } from "./wait.js";

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
   * they were, where that fails; of those that are being marked already it waits for
   * the call that does so. */
  markRead(ids: readonly string[]): Promise<void>;
  /** Loads the page after the last. Rejects where that fails. */
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

/** A mark that was made here, and of which the stream does not know yet. */
interface Mark {
  /** Settles with the call that makes it. */
  readonly call: Promise<void>;
  /** The one of the service's answer, once there is one. */
  revision: bigint | undefined;
}

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
  /** By the notification's id. It is another map when it is another user's inbox. */
  #marks = new Map<string, Mark>();
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
  /** What the connection had made of the fold when it last said so. */
  #state: State | undefined;
  /** What the leader said last. */
  #heard: Standing | undefined;
  #page: Promise<void> | undefined;
  /** From taking its place among the tabs to giving it up. */
  #place: AbortController | undefined;
  #identity: string | undefined;
  /** Whether a token has said, since the start, whose inbox it is: until then it may
   * be somebody else's. */
  #isIdentified = false;
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
    // The next token says whose inbox it is: one of before is of no use for that.
    this.#tokens.forget();
    this.#isIdentified = false;
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
    // Nothing would tell that the next token is another user's.
    if (this.#identity === undefined) this.#drop();
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
    // A mark is made in somebody's inbox, so it has to be known whose.
    if (!this.#isIdentified) await this.#tokens.get(false);
    const held = new Map(this.#fold.rows.map((row) => [row.id, row]));
    // What is not in the list may be unread as well; what is read is left alone.
    const wanted = [...new Set(ids)].filter((id) => !held.get(id)?.readAt);
    const marks = this.#marks;
    const others = wanted.map((id) => marks.get(id)?.call);
    const unmarked = wanted.filter((id) => !marks.has(id));
    const call = this.#mark(unmarked, marks);
    for (const id of unmarked) marks.set(id, { call, revision: undefined });
    this.#update();
    await Promise.all([call, ...others]);
  }

  async #mark(ids: readonly string[], marks: Map<string, Mark>): Promise<void> {
    try {
      for (let from = 0; from < ids.length; from += MOST_MARKED) {
        const notificationIds = ids.slice(from, from + MOST_MARKED);
        const reply = await this.#call((options) =>
          this.#client.markRead({ notificationIds }, options),
        );
        // Meanwhile it may have become somebody else's inbox.
        if (marks !== this.#marks) return;
        for (const id of notificationIds) {
          const mark = marks.get(id);
          if (mark) mark.revision = reply.revision;
        }
        this.#fold.observe(reply.revision, reply.unreadCount);
        this.#update();
      }
    } catch (error) {
      for (const id of ids) {
        if (marks.get(id)?.revision === undefined) marks.delete(id);
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
    const status = this.#status;
    const error = this.#error;
    if (!this.#isIdentified) return { ...EMPTY, status, error };
    const fold = this.#fold;
    const readAt = timestampNow();
    const isMarked = (row: Notification) => !row.readAt && this.#marks.has(row.id);
    return {
      notifications: fold.rows.map((row) => (isMarked(row) ? { ...row, readAt } : row)),
      // The service's, which the answer to a mark brings: nothing is reckoned here.
      unreadCount: fold.unreadCount,
      revision: fold.revision,
      status,
      error,
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
    for (const [id, { revision }] of this.#marks) {
      // The stream has delivered it: the row says so itself, or is gone.
      if (revision !== undefined && position >= revision) this.#marks.delete(id);
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

  /** The connection may have changed the fold or its own status. */
  #changed(status: Status, error?: unknown): void {
    const state = this.#fold.state();
    // A heartbeat mostly changes nothing, and nothing is written or said then.
    if (state === this.#state && status === this.#status && error === this.#error) return;
    this.#state = state;
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
    if (this.#leads && this.#isIdentified) this.#kept?.put(this.#fold.state());
  }

  /** Tells the other tabs how it stands. */
  #tell(): void {
    if (!this.#leads || !this.#group || this.#group.isAlone) return;
    const state = this.#fold.state();
    this.#group.say({
      kind: "leader",
      visible: this.#isVisible(),
      state: state && encode(state),
      status: this.#status,
      error: plain(this.#error),
    });
  }

  /** Loads older ones: once, however many tabs ask for them. */
  #loadPage(): Promise<void> {
    this.#page ??= this.#loadOlder().finally(() => (this.#page = undefined));
    return this.#page;
  }

  /** Loads pages, until one has older ones or there are no more. */
  async #loadOlder(): Promise<void> {
    const fold = this.#fold;
    const { oldest } = fold;
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
    } while (fold.oldest === oldest && fold.nextPageToken);
    this.#tell();
    this.#update();
  }

  /** The list is the group's: who holds the stream loads the page. */
  async #askForPage(): Promise<void> {
    const { oldest } = this.#fold;
    let forget = (): void => undefined;
    const came = new Promise<void>((done) => {
      forget = this.subscribe(() => {
        if (this.#fold.oldest !== oldest || this.#leads) done();
      });
    });
    this.#group?.say({ kind: "more" });
    await within(came, MORE_MS, "the tab that holds the stream").finally(() => forget());
  }

  // Whose inbox it is, and which tab leads.

  /** A token came. Where it is somebody else's, nothing of the former user stays. */
  #identify(token: string): void {
    const identity = identityOf(token, { ...CLAIMS, ...this.#options.claims });
    const isOther = identity !== this.#identity;
    if (this.#isIdentified && !isOther) return;
    this.#isIdentified = true;
    if (isOther) {
      this.#drop();
      this.#identity = identity;
      this.#kept = undefined;
    }
    if (this.#leads || this.#group) {
      // It goes on among the tabs of that user.
      this.#suspend();
      queueMicrotask(() => this.#resume());
    }
    if (isOther && identity !== undefined && (this.#options.persist ?? true)) {
      this.#kept = new Kept(storage(), this.#options.baseUrl, identity);
      const state = this.#kept.take();
      if (state) this.#fold.adopt(state);
    }
    this.#update();
  }

  #drop(): void {
    this.#fold.drop();
    this.#marks = new Map();
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
    const isKnown = this.#isIdentified && this.#identity !== undefined;
    if (isKnown && (this.#options.shareTabs ?? true)) {
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
    this.#heard = undefined;
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
    this.#heard = undefined;
    this.#connection.start(!this.#isVisible());
    this.#tell();
  }

  /** This tab was shown or hidden. */
  #shown(): void {
    const visible = this.#isVisible();
    this.#group?.show(visible);
    if (!this.#leads) return;
    clearTimeout(this.#hiding);
    // A visible tab that hears this takes the lead.
    this.#tell();
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
        this.#tell();
        break;
      case "leader":
        if (!this.#leads) this.#follow(word);
        break;
      case "ring": {
        const row = this.#fold.rows.find((held) => held.id === word.id);
        if (row && !this.#leads) this.#announce(row);
        break;
      }
      case "more":
        // Where it fails, who asked hears nothing, and gives up.
        if (this.#leads) void this.#loadPage().catch(() => undefined);
        break;
      case "retry":
        if (this.#leads) this.retry();
    }
  }

  #follow(leader: Standing): void {
    const { state: text, status, error } = leader;
    const heard = this.#heard;
    // An answer to another tab's question, mostly: there is nothing new in it.
    const isSame = text === heard?.state && error?.message === heard?.error?.message;
    if (heard && isSame && status === heard.status) return;
    this.#heard = leader;
    const state = text === undefined ? undefined : decode(text);
    if (state) this.#fold.adopt(state);
    this.#set(status, error && new ConnectError(error.message, error.code));
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

/** An error as it can be told to another tab. */
function plain(error: unknown): Standing["error"] {
  if (error === undefined) return undefined;
  const { code, rawMessage: message } = ConnectError.from(error);
  return { code, message };
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

