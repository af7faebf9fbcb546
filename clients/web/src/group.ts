// The tabs of one user in one browser: one of them, the leader, holds the stream.
//
// A browser allows six HTTP/1.1 connections to a host, and all tabs share them. So
// tabs of one origin and user form a group. Who holds a Web Lock leads; the browser
// gives it to the next tab when the leader closes or crashes. A tab that is visible
// takes it from a leader that is not, or that is silent when it is asked: the browser
// froze it, or it hangs. What the leader knows, it tells the others over a
// BroadcastChannel; so a new leader goes on from the last position, and nothing is
// missed.

import type { Change } from "./change.js";
import type { Arrival } from "./client.js";
import type { State } from "./fold.js";
import type { RowChange } from "./row.js";
import type { Problem, Status } from "./snapshot.js";

/** The leader's inbox, as the others show it. */
export interface Standing {
  readonly status: Status;
  readonly problem: Problem | undefined;
  /** What names the state that the others have once they heard this. */
  readonly version: string;
  /** The state whole, or what leads to it from that of a former version. */
  readonly news: State | { readonly from: string; readonly change: Change };
  /** What changed in rows that are not in the list, which other lists may have. */
  readonly others: readonly RowChange[];
  /** Whether more than all this changed in rows, so that other lists are out of date. */
  readonly isGap: boolean;
  /** What is new in it: announce it. */
  readonly rings: readonly Ring[];
}

/** Notifications to announce together, by their ids. */
export interface Ring {
  readonly ids: readonly string[];
  readonly how: Arrival;
}

/** What tabs tell each other. */
export type Word =
  /** Somebody is new, became visible, or heard nothing for long: who leads? */
  | { readonly kind: "who" }
  /** The leader's answer, and its word when anything changes. */
  | ({ readonly kind: "leader"; readonly visible: boolean } & Standing)
  /** Somebody scrolled: load a page. */
  | { readonly kind: "more" }
  /** Somebody would not wait: try again now. */
  | { readonly kind: "retry" }
  /** The service does not know the position: load anew. */
  | { readonly kind: "reload" }
  /** The user has signed out: keep nothing. */
  | { readonly kind: "forget" };

/** What a member of a group is told. */
export interface Member {
  /** It leads now, or no longer. */
  lead(leads: boolean): void;
  /** Another tab said this. */
  hear(word: Word): void;
}

/** How long a leader has for its answer before it is taken to be frozen, in ms. */
const ANSWER_MS = 400;
/** After so long without a word of the leader a visible tab asks whether it is there. */
const SILENCE_MS = 60_000;

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
  #isAlone = true;
  #isStealing = false;
  /** The latest request for the lock: what becomes of former ones is of no matter. */
  #request: object | undefined;
  #release: (() => void) | undefined;
  #waiting: AbortController | undefined;
  /** Until the leader must have answered, or said anything. */
  #patience: ReturnType<typeof setTimeout> | undefined;
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
    try {
      return locks && channel && new Group(name, locks, channel(name), member, visible);
    } catch {
      // There is one, but the page may not use it: it is in a sandbox, perhaps.
      return undefined;
    }
  }

  /** Whether no other tab was heard of. Then none listens: who came later has asked
   * who leads, and who was there before would lead in place of this one. */
  get isAlone(): boolean {
    return this.#isAlone;
  }

  /** Whether this tab has the lead. */
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
    clearTimeout(this.#patience);
    if (visible && !this.#leads) this.#ask();
  }

  /** Gives up its place; another tab goes on. */
  leave(): void {
    this.#left = true;
    this.#request = undefined;
    clearTimeout(this.#patience);
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
    // Twice, it would take it from itself.
    if (this.#leads || this.#isStealing || this.#left) return;
    this.#isStealing = true;
    this.#isAlone = false;
    this.#waiting?.abort();
    this.#hold({ steal: true });
  }

  #hold(options: LockOptions): void {
    const request = {};
    this.#request = request;
    const held = this.#locks.request(this.#name, options, () => {
      if (request !== this.#request) return undefined;
      this.#isStealing = false;
      clearTimeout(this.#patience);
      this.#leads = true;
      this.#member.lead(true);
      return new Promise<void>((release) => {
        this.#release = release;
      });
    });
    held.catch((error: unknown) => {
      if (request !== this.#request) return;
      this.#isStealing = false;
      this.#release = undefined;
      if ((error as Partial<Error>).name !== "AbortError") {
        // The browser has locks and refuses them: this tab is on its own.
        this.leave();
        this.#leads = true;
        this.#member.lead(true);
        return;
      }
      // Another tab took it away, which may be hidden, and this one did not hear it.
      this.#leads = false;
      this.#member.lead(false);
      this.#wait();
      this.#ask();
    });
  }

  /** Asks who leads. No answer, or one of a hidden tab: a visible one takes it. */
  #ask(): void {
    this.say({ kind: "who" });
    this.#expect(ANSWER_MS, () => this.#steal());
  }

  /** Does something when the leader says nothing for so long. Only a visible tab
   * minds: hidden, it asks when it is shown. */
  #expect(ms: number, act: () => void): void {
    clearTimeout(this.#patience);
    if (this.#visible) this.#patience = setTimeout(act, ms);
  }

  #hear(word: Word): void {
    this.#isAlone = false;
    if (word.kind === "leader" && !this.#leads) {
      if (this.#visible && !word.visible) this.#steal();
      else this.#expect(SILENCE_MS, () => this.#ask());
    }
    this.#member.hear(word);
  }
}

/** This browser. */
export function browser(): Browser {
  return {
    locks: globalThis.navigator?.locks,
    channel:
      typeof BroadcastChannel === "undefined" ? undefined : (name) => new BroadcastChannel(name),
  };
}
