// The inbox of one user, for a page: whose it is, which tab leads, and what is shown.

import { Code, ConnectError, createClient, type CallOptions, type Client, type Transport } from "@connectrpc/connect";
import type { InboxClient, InboxOptions } from "./client.js";
import { callOptions } from "./connection.js";
import { isLoaded, UNKNOWN } from "./fold.js";
import { Follower } from "./follower.js";
import { NotificationService, type Head } from "./gen/doorbell/v1/notifications_pb.js";
import { grpcWeb } from "./grpcweb.js";
import { Group, type Browser, type Word } from "./group.js";
import { identityOf, type ClaimNames } from "./identity.js";
import { Leader } from "./leader.js";
import { Marks, type Held, type Through } from "./marks.js";
import type { Notification } from "./notification.js";
import { cureOf, Diagnosis, TokenError } from "./problem.js";
import { EMPTY, type Problem, type ProblemKind, type Snapshot, type Status } from "./snapshot.js";
import { Resting, type House, type Source } from "./source.js";
import { Shelf, storage, VERSION } from "./storage.js";
import { TokenSource } from "./token.js";
import { headOf } from "./wire.js";

const CLAIMS: ClaimNames = { organization: "organizationId", user: "userId" };
/** The service was there a moment ago. */
const REACHED: readonly Status[] = ["live", "polling", "delayed"];

/** What stands in for the browser in tests, and for the live page that looks on. */
export interface Outside {
  readonly transport?: Transport;
  readonly random?: () => number;
}

/** Makes an inbox. Its functions are bound: they may be taken off it. */
export function makeInbox(options: InboxOptions, outside: Outside = {}): InboxClient {
  const inbox = new Inbox(options, outside);
  return {
    start: (who) => inbox.start(who?.user),
    stop: (how) => inbox.stop(how?.forget ?? false),
    subscribe: (listener) => inbox.subscribe(listener),
    getSnapshot: () => inbox.getSnapshot(),
    markRead: (ids) => inbox.markRead(ids),
    markAllRead: () => inbox.markAllRead(),
    markSeen: () => inbox.markSeen(),
    loadMore: () => inbox.loadMore(),
    retry: () => inbox.retry(),
    onNotification: (announce) => inbox.onNotification(announce),
  };
}

class Inbox {
  readonly #options: InboxOptions;
  readonly #client: Client<typeof NotificationService>;
  readonly #tokens: TokenSource;
  readonly #diagnosis: Diagnosis;
  readonly #house: House;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #announcers = new Set<(notification: Notification) => void>();
  /** From `start` to `stop`. */
  #started: AbortController | undefined;
  /** Who it is, as the page says. */
  #user: string | undefined;
  /** Whose it is, as the tokens say. */
  #whose: string | undefined;
  /** Whom the page named, for each token that said whose it was. */
  readonly #owners = new Map<string, string>();
  /** Whether a token has said, since the start, whose inbox it is: until then it may
   * be somebody else's, unless the page has said who is there. */
  #isIdentified = false;
  #source: Source = new Resting({ state: UNKNOWN, status: "idle", problem: undefined });
  #group: Group | undefined;
  #shelf: Shelf | undefined;
  #marks: Marks;
  #snapshot: Snapshot | undefined;
  #isLoadingMore = false;
  /** Up to where the person has looked, while the service has yet to know it; held where
   * it was away. */
  #looked: { readonly sequence: number; readonly epoch: string; isHeld: boolean } | undefined;
  /** What the console was told of, and what stood in the way last. */
  readonly #said = new Set<ProblemKind>();
  #problem: Problem | undefined;
  #isReached = false;
  #document: Document | undefined;

  constructor(options: InboxOptions, { transport, random = Math.random }: Outside) {
    const { baseUrl, user, pageSize = 20, pollInterval = 60_000, hiddenGrace = 5000 } = options;
    this.#options = options;
    this.#user = user;
    this.#client = createClient(NotificationService, transport ?? grpcWeb(baseUrl));
    this.#tokens = new TokenSource(options.getToken, (token) => this.#identify(token));
    this.#diagnosis = new Diagnosis(baseUrl);
    this.#house = {
      client: this.#client,
      diagnosis: this.#diagnosis,
      pageSize,
      pollMs: pollInterval,
      graceMs: hiddenGrace,
      random,
      token: (fresh) => this.#tokens.get(fresh),
      call: async (call) => {
        try {
          return await call(callOptions(await this.#tokens.get(false)));
        } catch (error) {
          if (cureOf(error) !== "token") throw error;
          return await call(callOptions(await this.#tokens.get(true)));
        }
      },
      isVisible: () => this.#isVisible(),
      isOnline: () => globalThis.navigator?.onLine ?? true,
      changed: () => this.#changed(),
      ring: (notification) => this.#ring(notification),
      keep: (state) => {
        if (this.#isIdentified) this.#shelf?.put(state, this.#whose);
      },
    };
    this.#marks = this.#newMarks();
  }

  start(user = this.#user): void {
    if (user !== this.#user) this.#become(user);
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
    this.#diagnosis.watch(document, signal);
    listen(document, "visibilitychange", () => {
      this.#group?.show(this.#isVisible());
      this.#source.show(this.#isVisible());
    });
    listen(window, "online", () => this.#source.network(true));
    listen(window, "offline", () => this.#source.network(false));
    // A page that may come back from the browser's cache holds nothing meanwhile.
    listen(window, "pagehide", () => this.#rest());
    listen(window, "pageshow", () => this.#resume());
    // Nor does one that the browser freezes in the background.
    listen(document, "freeze", () => this.#rest());
    listen(document, "resume", () => this.#resume());
    if (!this.#shelf) this.#open();
    this.#rest("connecting");
    this.#resume();
    this.#update();
  }

  stop(forget: boolean): void {
    this.#started?.abort();
    this.#started = undefined;
    this.#tokens.forget();
    if (forget) {
      this.#group?.say({ kind: "forget" });
      this.#shelf?.forget();
    }
    this.#rest("idle");
    // Nothing would tell that the next token is another user's.
    if (forget || this.#key === undefined) this.#drop();
    this.#update();
  }

  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener);
    safely(() => listener(this.getSnapshot()));
    return () => void this.#listeners.delete(listener);
  }

  onNotification(announce: (notification: Notification) => void): () => void {
    this.#announcers.add(announce);
    return () => void this.#announcers.delete(announce);
  }

  getSnapshot(): Snapshot {
    this.#snapshot ??= this.#view();
    return this.#snapshot;
  }

  async markRead(ids: readonly string[]): Promise<void> {
    // A mark is made in somebody's inbox, so it has to be known whose.
    if (!this.#isKnown) await this.#tokens.get(false);
    const held = new Map(this.#source.state.rows.map((row) => [row.id, row]));
    // What is not in the list may be unread as well; what is read is left alone.
    await this.#marks.mark(ids.filter((id) => !held.get(id)?.readAt));
  }

  async markAllRead(): Promise<void> {
    const { state } = this.#source;
    if (!this.#isKnown || !isLoaded(state)) throw new Error("the inbox is not loaded");
    const { epoch, head, reached } = state;
    if (head.unreadCount > 0) await this.#marks.mark([{ revision: reached, epoch }]);
  }

  async markSeen(): Promise<void> {
    const { epoch, head, rows } = this.#source.state;
    const sequence = rows[0]?.sequence ?? 0;
    if (!this.#isKnown || head.unseenCount === 0 || sequence <= head.seenThrough) return;
    const looked = this.#looked;
    const isKnown = looked?.epoch === epoch && sequence <= looked.sequence;
    if (isKnown && !looked.isHeld) return;
    this.#looked = { sequence, epoch, isHeld: false };
    await this.#tellLooked();
  }

  async loadMore(): Promise<void> {
    if (this.#isLoadingMore || !this.getSnapshot().hasMore) return;
    this.#isLoadingMore = true;
    this.#update();
    try {
      await this.#source.more();
    } finally {
      this.#isLoadingMore = false;
      this.#update();
    }
  }

  retry(): void {
    this.#source.retry();
    this.#marks.flush();
  }

  // What is shown.

  #view(): Snapshot {
    const { state, status, problem: error } = this.#source;
    const user = this.#user;
    if (!this.#isKnown) return { ...EMPTY, user, status, error };
    return {
      user,
      notifications: this.#marks.shown(state),
      // The service's, which the answer to a mark brings: nothing is reckoned here.
      ...state.head,
      status,
      error,
      isLoaded: isLoaded(state),
      hasMore: isLoaded(state) && state.oldest > 0,
      isLoadingMore: this.#isLoadingMore,
      pendingMarks: this.#marks.held,
    };
  }

  /** What the source has changed. */
  #changed(): void {
    const { problem, status } = this.#source;
    if (problem !== this.#problem) this.#complain(problem);
    const wasReached = this.#isReached;
    this.#isReached = REACHED.includes(status);
    if (this.#isReached && !wasReached) {
      this.#marks.flush();
      void this.#tellLooked().catch(() => undefined);
    }
    this.#update();
  }

  #update(): void {
    this.#marks.settle(this.#source.state);
    this.#snapshot = undefined;
    const snapshot = this.getSnapshot();
    for (const listener of this.#listeners) safely(() => listener(snapshot));
  }

  #ring(notification: Notification): void {
    // Who is told may look: the list has it already.
    this.#snapshot = undefined;
    for (const announce of this.#announcers) safely(() => announce(notification));
  }

  /** Tells the console what stands in the way: once of each kind, and not of what is over
   * with the next attempt. */
  #complain(problem: Problem | undefined): void {
    const isAgain = problem?.kind === this.#problem?.kind;
    this.#problem = problem;
    if (!problem || this.#said.has(problem.kind)) return;
    if (!isAgain && problem.kind !== "token") return;
    this.#said.add(problem.kind);
    console.error(`Doorbell: ${problem.message}`);
  }

  // Whose inbox it is.

  get #isKnown(): boolean {
    return this.#isIdentified || this.#user !== undefined;
  }

  /** What it is kept by; nothing where nobody says whose it is. */
  get #key(): string | undefined {
    return this.#user === undefined ? this.#whose : JSON.stringify(this.#user);
  }

  /** The page says that another user is there. */
  #become(user: string | undefined): void {
    this.#rest();
    this.#drop();
    this.#user = user;
    this.#tokens.forget();
    if (!this.#started) return;
    this.#open();
    this.#rest("connecting");
    this.#resume();
    this.#update();
  }

  /** A token came. Where it is somebody else's, nothing of the former user stays. */
  #identify(token: string): void {
    const whose = identityOf(token, { ...CLAIMS, ...this.#options.claims });
    const user = this.#user;
    if (user !== undefined && whose !== undefined) {
      const owner = this.#owners.get(whose) ?? user;
      if (owner !== user) {
        const message = `getToken gave a token of ${owner}, and the page says that ${user} is there. It is asked again.`;
        throw new TokenError(message);
      }
      this.#owners.set(whose, user);
    }
    if (this.#isIdentified && whose === this.#whose) {
      this.#source.offer(token);
      return;
    }
    this.#rest();
    // A user whom the page named is not another one because the first token says more.
    const isFirst = user !== undefined && this.#whose === undefined;
    if (whose !== this.#whose && !isFirst) {
      if (user !== undefined) this.#shelf?.forget();
      this.#drop();
    }
    this.#whose = whose;
    this.#isIdentified = true;
    if (!this.#shelf) this.#open();
    // It goes on among the tabs of that user.
    if (this.#started) queueMicrotask(() => this.#resume());
    this.#update();
  }

  /** Forgets all of the user who was there. */
  #drop(): void {
    this.#marks.end();
    this.#looked = undefined;
    this.#shelf = undefined;
    this.#whose = undefined;
    this.#isIdentified = false;
    this.#source = new Resting({ ...this.#source, state: UNKNOWN });
    this.#marks = this.#newMarks();
  }

  /** Takes what was kept of the user who is there. */
  #open(): void {
    const key = this.#key;
    if (key === undefined || this.#options.persist === false) return;
    const shelf = new Shelf(storage(), this.#options.baseUrl, key);
    this.#shelf = shelf;
    const kept = shelf.take();
    if (kept && !isLoaded(this.#source.state)) {
      const { status, problem } = this.#source;
      this.#whose ??= kept.whose;
      this.#source = new Resting({ state: kept.state, status, problem });
    }
    this.#marks.end();
    this.#marks = this.#newMarks(shelf);
  }

  #newMarks(shelf?: Shelf): Marks {
    const clerk = {
      random: this.#house.random,
      send: async (what: readonly string[] | Through) => {
        const request =
          "epoch" in what
            ? { through: { revision: BigInt(what.revision), epoch: what.epoch } }
            : { notificationIds: [...what] };
        for (;;) {
          const isOurs = () => marks === this.#marks;
          const { head, more } = await this.#tell(isOurs, (options) =>
            this.#client.markRead(request, options),
          );
          // It stopped early, and goes on where it is asked again.
          if (!more) return headOf(head).revision;
        }
      },
      keep: (held: readonly Held[]) => shelf?.putMarks(held),
      isActive: () => this.#started !== undefined,
      changed: () => this.#update(),
    };
    const marks = new Marks(clerk, shelf?.takeMarks() ?? []);
    return marks;
  }

  /** Tells the service up to where the person has looked; where it is away, once it is
   * there again. */
  async #tellLooked(): Promise<void> {
    const looked = this.#looked;
    if (!looked) return;
    const isOurs = () => looked === this.#looked;
    try {
      const { sequence, epoch } = looked;
      const request = { throughSequence: BigInt(sequence), epoch };
      await this.#tell(isOurs, (options) => this.#client.markSeen(request, options));
      if (isOurs()) this.#looked = undefined;
    } catch (error) {
      looked.isHeld = cureOf(error) === "wait";
      if (looked.isHeld) return;
      if (isOurs()) this.#looked = undefined;
      throw error;
    }
  }

  /** A call that changes the inbox, of which the answer has its head. With the token that
   * came for it, or meanwhile, the inbox may have become somebody else's. */
  async #tell<T extends { readonly head?: Head | undefined }>(
    isOurs: () => boolean,
    call: (options: CallOptions) => Promise<T>,
  ): Promise<T> {
    try {
      const reply = await this.#house.call((options) => {
        if (!isOurs()) throw new ConnectError("the token is another user's", Code.Canceled);
        return call(options);
      });
      if (isOurs()) {
        this.#source.observe(headOf(reply.head));
        this.#update();
      }
      return reply;
    } catch (error) {
      const isLost = ConnectError.from(error).code === Code.FailedPrecondition;
      if (isLost && isOurs()) this.#source.reload();
      throw error;
    }
  }

  // Which tab leads.

  #isVisible(): boolean {
    return this.#document?.visibilityState !== "hidden";
  }

  /** Takes its place among the tabs, or begins alone where there is no such thing. */
  #resume(): void {
    if (!this.#started || !(this.#source instanceof Resting)) return;
    const isShared = this.#isIdentified && this.#key !== undefined;
    if (isShared && this.#options.shareTabs !== false) {
      const { baseUrl } = this.#options;
      const name = `doorbell:${baseUrl}:${JSON.stringify([VERSION, this.#user, this.#whose])}`;
      const member = {
        lead: (leads: boolean) => this.#lead(leads),
        hear: (word: Word) => this.#hear(word),
      };
      this.#group = Group.join(browser(), name, member, this.#isVisible());
    }
    this.#lead(!this.#group);
  }

  /** Leaves its place; what is known stays. */
  #rest(status = this.#source.status): void {
    this.#source.end();
    const { state, problem } = this.#source;
    const isOver = status !== this.#source.status;
    this.#source = new Resting({ state, status, problem: isOver ? undefined : problem });
    this.#group?.leave();
    this.#group = undefined;
  }

  #lead(leads: boolean): void {
    const former = this.#source;
    former.end();
    const { state, status, problem } = former;
    const known = { state, status, problem };
    if (!leads && this.#group) {
      this.#source = new Follower(this.#house, this.#group, known);
      return;
    }
    const leader = new Leader(this.#house, this.#group, known);
    this.#source = leader;
    leader.start();
  }

  #hear(word: Word): void {
    if (word.kind === "forget") this.#shelf?.forget();
    else this.#source.hear(word);
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

function browser(): Browser {
  return {
    locks: globalThis.navigator?.locks,
    channel:
      typeof BroadcastChannel === "undefined" ? undefined : (name) => new BroadcastChannel(name),
  };
}
