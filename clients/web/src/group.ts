// The tabs of one user in one browser: one of them, the leader, holds the stream.
//
// A browser allows six HTTP/1.1 connections to a host, and all tabs share them. So
// tabs of one origin and user form a group. Who holds a Web Lock leads; the browser
// gives it to the next tab when the leader closes or crashes. A tab that is visible
// takes it from a leader that is not, which also frees it from one that the browser
// froze. What the leader knows, it tells the others over a BroadcastChannel; so a
// new leader goes on from the last position, and nothing is missed.

/** What tabs tell each other. */
export type Word =
  /** Somebody is new, or became visible: who leads? */
  | { readonly kind: "who"; readonly visible: boolean }
  /** The leader's answer, and its word when its own visibility changes. */
  | { readonly kind: "leader"; readonly visible: boolean; readonly state: string | undefined; readonly status: string }
  /** The leader's state changed. */
  | { readonly kind: "state"; readonly state: string | undefined; readonly status: string }
  /** A notification is new: announce it. */
  | { readonly kind: "ring"; readonly id: string }
  /** Somebody scrolled: load a page. */
  | { readonly kind: "more" }
  /** Somebody would not wait: try again now. */
  | { readonly kind: "retry" };

/** What a member of a group is told. */
export interface Member {
  /** It leads now, or no longer. */
  lead(leads: boolean): void;
  /** Another tab said this. */
  hear(word: Word): void;
}

/** How long a leader has for its answer before it is taken to be frozen, in ms. */
const ANSWER_MS = 400;

/** What of the browser a group needs; injected, since tests have no browser. */
export interface Browser {
  readonly locks: Pick<LockManager, "request"> | undefined;
  readonly channel: ((name: string) => BroadcastChannel) | undefined;
}

/** A tab's place in its group. */
export class Group {
  readonly #name: string;
  readonly #locks: Pick<LockManager, "request">;
  readonly #channel: BroadcastChannel;
  readonly #member: Member;
  #visible: boolean;
  #leads = false;
  #release: (() => void) | undefined;
  #waiting: AbortController | undefined;
  #answer: ReturnType<typeof setTimeout> | undefined;
  #left = false;

  private constructor(
    name: string,
    locks: Pick<LockManager, "request">,
    channel: BroadcastChannel,
    member: Member,
    visible: boolean,
  ) {
    this.#name = name;
    this.#locks = locks;
    this.#channel = channel;
    this.#member = member;
    this.#visible = visible;
    channel.onmessage = ({ data }: MessageEvent<Word>) => this.#hear(data);
    this.#wait();
    this.#ask();
  }

  /** Joins the group of this name; nothing where the browser has no such thing. */
  static join(
    browser: Browser,
    name: string,
    member: Member,
    visible: boolean,
  ): Group | undefined {
    const { locks, channel } = browser;
    return locks && channel && new Group(name, locks, channel(name), member, visible);
  }

  get leads(): boolean {
    return this.#leads;
  }

  /** Tells all other tabs. */
  say(word: Word): void {
    if (!this.#left) this.#channel.postMessage(word);
  }

  /** This tab is shown, or hidden. */
  show(visible: boolean): void {
    this.#visible = visible;
    if (visible && !this.#leads) this.#ask();
  }

  /** Gives up its place; another tab goes on. */
  leave(): void {
    this.#left = true;
    clearTimeout(this.#answer);
    this.#waiting?.abort();
    this.#release?.();
    this.#channel.close();
  }

  /** Waits for its turn: until the leader is gone. */
  #wait(): void {
    const waiting = new AbortController();
    this.#waiting = waiting;
    this.#hold({ signal: waiting.signal });
  }

  /** Takes the lead from whoever has it. */
  #steal(): void {
    if (this.#leads || this.#left) return;
    this.#waiting?.abort();
    this.#hold({ steal: true });
  }

  #hold(options: LockOptions): void {
    let isGranted = false;
    const held = this.#locks.request(this.#name, options, () => {
      if (this.#left) return undefined;
      isGranted = true;
      clearTimeout(this.#answer);
      this.#leads = true;
      this.#member.lead(true);
      return new Promise<void>((release) => {
        this.#release = release;
      });
    });
    held.catch(() => {
      // It was never granted: the wait was given up. Or another tab took it away.
      if (!isGranted || this.#left) return;
      this.#leads = false;
      this.#release = undefined;
      this.#member.lead(false);
      this.#wait();
    });
  }

  /** Asks who leads. No answer, or one of a hidden tab: a visible one takes it. */
  #ask(): void {
    this.say({ kind: "who", visible: this.#visible });
    clearTimeout(this.#answer);
    if (this.#visible) this.#answer = setTimeout(() => this.#steal(), ANSWER_MS);
  }

  #hear(word: Word): void {
    if (word.kind === "leader") {
      clearTimeout(this.#answer);
      if (this.#visible && !word.visible) this.#steal();
    }
    this.#member.hear(word);
  }
}
