// The inbox of one user, for a page: whose it is, which tab leads, and what is shown.

import { Code, ConnectError, createClient, type CallOptions, type Client, type Transport } from "@connectrpc/connect";
import type { Announce, InboxClient, InboxOptions, Selection } from "./client.js";
import { callOptions } from "./connection.js";
import { isLoaded, UNKNOWN } from "./fold.js";
import { Follower } from "./follower.js";
import { NotificationService, type Head, type MarkReadResponse } from "./gen/doorbell/v1/notifications_pb.js";
import { PreferenceService } from "./gen/doorbell/v1/preferences_pb.js";
import { grpcWeb } from "./grpcweb.js";
import { browser, Group, type Word } from "./group.js";
import { identityOf, type ClaimNames } from "./identity.js";
import { Leader } from "./leader.js";
import type { Listed } from "./list.js";
import { Listeners } from "./listeners.js";
import { Looks } from "./looks.js";
import { Marks, type Held, type Marked, type Selected } from "./marks.js";
import type { Notification } from "./notification.js";
import { browserStorage } from "./outside.js";
import { beingMarked, knownOf, overlaid, type Known } from "./overlay.js";
import { watchPage } from "./page.js";
import type { Preference, PreferenceChoice } from "./preferences.js";
import { Complaints, cureOf, Diagnosis, TokenError } from "./problem.js";
import { answers } from "./question.js";
import { sameOr } from "./row.js";
import { EMPTY, type Snapshot, type Status } from "./snapshot.js";
import { Resting, type House, type Source } from "./source.js";
import { Shelf, VERSION } from "./storage.js";
import { TokenSource } from "./token.js";
import type { Verb } from "./verbs.js";
import { Views } from "./views.js";
import { choicesOf, headOf, preferencesOf, selectionOf } from "./wire.js";

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
    markRead: (which) => inbox.mark("markRead", which),
    markUnread: (which) => inbox.mark("markUnread", which),
    archive: (which) => inbox.mark("archive", which),
    unarchive: (which) => inbox.mark("unarchive", which),
    remove: (which) => inbox.mark("remove", which),
    markAllRead: (only) => inbox.mark("markRead", { all: true, types: only?.types }),
    archiveAll: (only) => inbox.mark("archive", { all: true, types: only?.types }),
    markSeen: () => inbox.markSeen(),
    loadMore: () => inbox.loadMore(),
    view: (question) => inbox.views.view(question),
    countTypes: (types) => inbox.views.countTypes(types),
    preferences: () => inbox.preferences(),
    updatePreferences: (choices) => inbox.updatePreferences(choices),
    retry: () => inbox.retry(),
    onNotification: (announce) => inbox.onNotification(announce),
  };
}

const anotherUsers = () => new ConnectError("the token is another user's", Code.Canceled);

class Inbox {
  readonly #options: InboxOptions;
  readonly #client: Client<typeof NotificationService>;
  readonly #wants: Client<typeof PreferenceService>;
  readonly #tokens: TokenSource;
  readonly #diagnosis: Diagnosis;
  readonly #house: House;
  readonly #complaints = new Complaints();
  readonly #listeners = new Listeners<[Snapshot]>();
  readonly #announcers = new Listeners<Parameters<Announce>>();
  readonly #looks: Looks;
  readonly views: Views;
  /** From `start` to `stop`. */
  #started: AbortController | undefined;
  /** Who it is, as the page says. */
  #user: string | undefined;
  /** Goes up when all of the user who was there is forgotten. */
  #life = 0;
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
  /** What was shown last. */
  #rows: readonly Notification[] = [];
  /** The page after these that is being loaded. */
  #loading: object | undefined;
  #isReached = false;
  #document: Document | undefined;

  constructor(options: InboxOptions, { transport, random = Math.random }: Outside) {
    const { baseUrl, user, pageSize = 20, pollInterval = 60_000, hiddenGrace = 5000 } = options;
    const { keepRows = 200, fetch } = options;
    this.#options = options;
    this.#user = user;
    const way = transport ?? grpcWeb(baseUrl, fetch);
    this.#client = createClient(NotificationService, way);
    this.#wants = createClient(PreferenceService, way);
    this.#tokens = new TokenSource(options.getToken, (token) => this.#identify(token));
    this.#diagnosis = new Diagnosis(baseUrl, fetch);
    this.#house = {
      client: this.#client,
      diagnosis: this.#diagnosis,
      pageSize,
      keepRows,
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
      news: (changes, isGap) => this.views.take(changes, isGap),
      ring: (notifications, how, leads) => {
        // Who is told may look: the list has it already.
        this.#snapshot = undefined;
        const life = this.#life;
        this.#announcers.tellWhile(() => life === this.#life, notifications, how, leads);
      },
      keep: (state) => {
        if (this.#isIdentified) this.#shelf?.put(state, this.#whose);
      },
    };
    this.#marks = this.#newMarks();
    this.#looks = new Looks({
      random,
      send: ({ sequence, epoch }, isOurs) => {
        const request = { throughSequence: BigInt(sequence), epoch };
        return this.#tell(isOurs, (options) => this.#client.markSeen(request, options));
      },
      isActive: () => this.#started !== undefined,
    });
    this.views = new Views({
      client: this.#client,
      pageSize,
      keepRows,
      random,
      call: (isOurs, call) => this.#call(isOurs, call),
      isKnown: () => this.#isKnown,
      isReady: () =>
        this.#started !== undefined &&
        this.#isKnown &&
        isLoaded(this.#source.state) &&
        this.#isVisible(),
      shown: (listed, isIn) => this.#shown(listed, isIn),
      problemOf: (error) => this.#diagnosis.of(error),
    });
  }

  start(user = this.#user): void {
    if (user !== this.#user) this.#become(user);
    if (this.#started) return;
    const started = new AbortController();
    this.#started = started;
    // The next token says whose inbox it is: one of before is of no use for that.
    this.#tokens.forget();
    this.#isIdentified = false;
    this.#document = (globalThis as Partial<typeof globalThis>).document;
    this.#diagnosis.watch(this.#document, started.signal);
    watchPage(started.signal, {
      shown: () => {
        const isVisible = this.#isVisible();
        this.#group?.show(isVisible);
        this.#source.show(isVisible);
        if (isVisible) this.views.wake();
      },
      network: (isOnline) => this.#source.network(isOnline),
      rest: () => {
        this.#rest();
        this.#update();
      },
      resume: () => this.#resume(),
    });
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
    return this.#listeners.add(listener, this.getSnapshot());
  }

  onNotification(announce: Announce): () => void {
    return this.#announcers.add(announce);
  }

  getSnapshot(): Snapshot {
    this.#snapshot ??= this.#view();
    return this.#snapshot;
  }

  async mark(verb: Verb, which: Selection): Promise<void> {
    // It is done in somebody's inbox, so it has to be known whose.
    const isAll = "all" in which;
    if (!this.#isKnown && !isAll) await this.#tokens.get(false);
    const what = isAll ? this.#all(verb, which.types) : "about" in which ? [{ about: which.about }] : which;
    const known = this.#known();
    await this.#marks.mark(verb, what, (id) => known.get(id));
  }

  async markSeen(): Promise<void> {
    if (this.#isKnown) await this.#looks.at(this.#source.state);
  }

  async loadMore(): Promise<void> {
    if (this.#loading || !this.getSnapshot().hasMore) return;
    const loading = {};
    this.#loading = loading;
    const source = this.#source;
    this.#update();
    try {
      await source.more();
    } finally {
      if (this.#loading === loading) {
        this.#loading = undefined;
        this.#update();
      }
    }
  }

  async preferences(): Promise<readonly Preference[]> {
    return preferencesOf(await this.#ask((options) => this.#wants.getPreferences({}, options)));
  }

  async updatePreferences(choices: readonly PreferenceChoice[]): Promise<readonly Preference[]> {
    const request = choicesOf(choices);
    return preferencesOf(await this.#ask((options) => this.#wants.updatePreferences(request, options)));
  }

  retry(): void {
    this.#source.retry();
    this.#marks.flush();
    this.views.wake();
  }

  // What is shown.

  #view(): Snapshot {
    const { state, status, problem: error } = this.#source;
    const user = this.#user;
    if (!this.#isKnown) return { ...EMPTY, user, status, error };
    return {
      user,
      notifications: this.#notifications(),
      // The service's, which the answer to a mark brings: nothing is reckoned here.
      ...state.head,
      status,
      error,
      isLoaded: isLoaded(state),
      hasMore: isLoaded(state) && state.oldest > 0,
      isLoadingMore: this.#loading !== undefined,
      pendingMarks: this.#marks.held,
    };
  }

  /** The same list until something changes. */
  #notifications(): readonly Notification[] {
    this.#rows = sameOr(this.#rows, this.#shown(this.#source.state, (row) => answers({}, row)));
    return this.#rows;
  }

  #shown(listed: Listed, isIn: (row: Notification) => boolean): readonly Notification[] {
    return overlaid(listed, isIn, this.#marks, () => this.#known());
  }

  #known(): Known {
    return knownOf([this.#source.state.rows, ...this.views.rows]);
  }

  /** All that is shown. What is being marked already has another revision once that is
   * done, and so is named. */
  #all(verb: Verb, types: readonly string[] | undefined): readonly Marked[] {
    const { state } = this.#source;
    if (!this.#isKnown || !isLoaded(state)) throw new Error("the inbox is not loaded");
    const { reached: revision, epoch, head } = state;
    const named = beingMarked(verb, types, this.#marks, () => this.#known());
    if (verb === "markRead" && head.unreadCount === 0) return named;
    return [...named, { through: { revision, epoch, ...(types?.length && { types }) } }];
  }

  /** What the source has changed. */
  #changed(): void {
    const { problem, status } = this.#source;
    this.#complaints.hear(problem);
    const wasReached = this.#isReached;
    this.#isReached = REACHED.includes(status);
    if (this.#isReached && !wasReached) {
      this.#marks.flush();
      this.views.wake();
      void this.#looks.flush().catch(() => undefined);
    }
    this.#update();
  }

  #update(): void {
    this.#marks.settle(this.#source.state);
    const snapshot = this.#view();
    this.#snapshot = snapshot;
    this.#listeners.tellWhile(() => this.#snapshot === snapshot, snapshot);
    this.views.changed();
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
    this.#life += 1;
    this.#marks.end();
    this.#looks.drop();
    this.views.drop();
    this.#loading = undefined;
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
    const shelf = new Shelf(this.#options.storage ?? browserStorage(), this.#options.baseUrl, key);
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
      send: async (verb: Verb, what: Selected) => {
        const isOurs = () => marks === this.#marks;
        for (;;) {
          const { head, more } = await this.#tell<Pick<MarkReadResponse, "head" | "more">>(
            isOurs,
            (options) => this.#client[verb](selectionOf(what), options),
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

  /** A call that changes the inbox, of which the answer has its head. */
  async #tell<T extends { readonly head?: Head | undefined }>(
    isOurs: () => boolean,
    call: (options: CallOptions) => Promise<T>,
  ): Promise<T> {
    try {
      const reply = await this.#call(isOurs, call);
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

  /** A call that is about the person, and not about what is in the inbox. Nobody gets the
   * answer that was another user's. */
  async #ask<T>(call: (options: CallOptions) => Promise<T>): Promise<T> {
    if (!this.#isKnown) await this.#tokens.get(false);
    const life = this.#life;
    const isOurs = () => life === this.#life;
    const answer = await this.#call(isOurs, call);
    if (!isOurs()) throw anotherUsers();
    return answer;
  }

  /** A call for who is there. With the token that came for it, or meanwhile, the inbox may
   * have become somebody else's. */
  async #call<T>(
    isOurs: () => boolean,
    call: (options: CallOptions) => Promise<T>,
  ): Promise<T> {
    return await this.#house.call((options) => {
      if (!isOurs()) throw anotherUsers();
      return call(options);
    });
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
      this.#update();
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
