// One stream, kept open: it resumes, renews its token and notices silence; or, when
// nobody looks, a poll in its place.
//
// Promises: a stream goes on from the fold's position, so nothing is missed however
// often it is cut; the token is asked for again before it ends, and the next stream
// is open before the former one closes.

import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import { cureOf } from "./error.js";
import type { Fold } from "./fold.js";
import type {
  Notification,
  NotificationService,
  SubscribeResponse,
} from "./gen/doorbell/v1/notifications_pb.js";

/** How the connection is. */
export type Status =
  | "idle"
  /** On its way to the service, for the first time. */
  | "connecting"
  /** Every change comes at once. */
  | "live"
  /** It was cut, and comes back. */
  | "reconnecting"
  /** No tab is visible: what is new comes once a minute. */
  | "polling"
  /** The browser has no network. */
  | "offline"
  /** It ended for good: see the error. */
  | "failed";

/** What a connection asks of its owner. */
export interface Host {
  readonly client: Client<typeof NotificationService>;
  readonly fold: Fold;
  readonly pageSize: number;
  readonly pollMs: number;
  readonly random: () => number;
  /** A token; a new one where the last was refused or ends soon. */
  token(fresh: boolean): Promise<string>;
  isOnline(): boolean;
  /** The fold or the status changed. */
  changed(status: Status, error?: unknown): void;
  ring(notification: Notification): void;
}

/** The token is renewed so long before it ends, or after half of a short life. */
const RENEW_BEFORE_MS = 30_000;
/** Until a stream has said how often it beats. */
const FIRST_WORD_MS = 20_000;
/** A timer takes no more than 31 bits. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Messages = AsyncIterator<SubscribeResponse>;

interface Stream {
  readonly messages: Messages;
  readonly abort: AbortController;
  /** Its first message. */
  readonly first: SubscribeResponse;
}

/** Something that ended what was being waited for. */
type Woken = "silence" | "renew";

/** Runs from `start` to `stop`. */
export class Connection {
  readonly #host: Host;
  readonly #backoff: Backoff;
  #run: AbortController | undefined;
  #polls = false;
  #wake: (() => void) | undefined;

  constructor(host: Host) {
    this.#host = host;
    this.#backoff = new Backoff(host.random);
  }

  /** Begins, streaming or polling; where it runs already, changes to that. */
  start(polls: boolean): void {
    if (this.#run && this.#polls === polls) return;
    this.stop();
    this.#polls = polls;
    const run = new AbortController();
    this.#run = run;
    void this.#loop(run.signal, polls);
  }

  /** Ends; nothing is changed any more. */
  stop(): void {
    this.#run?.abort();
    this.#run = undefined;
  }

  /** Does not wait any longer: the network is back, or somebody asks. */
  retry(): void {
    this.#backoff.reset();
    this.#wake?.();
  }

  /** The network went away: a stream may not notice for long. */
  interrupt(): void {
    if (!this.#run) return;
    const polls = this.#polls;
    this.stop();
    this.start(polls);
  }

  async #loop(signal: AbortSignal, polls: boolean): Promise<void> {
    const host = this.#host;
    let fresh = false;
    let status: Status = "connecting";
    while (!signal.aborted) {
      if (!host.isOnline()) {
        host.changed("offline");
        await this.#pause(LONGEST_TIMER_MS, signal);
        continue;
      }
      try {
        host.changed(status);
        const token = await host.token(fresh);
        if (signal.aborted) return;
        const wait = polls ? await this.#poll(token, signal) : await this.#stream(token, signal);
        fresh = false;
        status = polls ? "polling" : "reconnecting";
        if (wait > 0) host.changed(status);
        await this.#pause(wait, signal);
      } catch (error) {
        if (signal.aborted) return;
        const cure = cureOf(error);
        if (cure === "none" || (cure === "token" && fresh)) {
          host.changed("failed", error);
          return;
        }
        // A token that was refused is replaced at once, and only once.
        fresh = cure === "token";
        status = "reconnecting";
        host.changed(host.isOnline() ? "reconnecting" : "offline", error);
        if (!fresh) await this.#pause(this.#backoff.next(), signal);
      }
    }
  }

  /** Streams until it is cut; answers how long to wait before it comes back. */
  async #stream(token: string, signal: AbortSignal): Promise<number> {
    const { fold } = this.#host;
    if (fold.position === undefined) await this.#load(token, signal);
    let stream = await this.#open(token, signal);
    let beat = FIRST_WORD_MS;
    let renewAt = Number.POSITIVE_INFINITY;
    let next = Promise.resolve<IteratorResult<SubscribeResponse>>({
      done: false,
      value: stream.first,
    });
    try {
      for (;;) {
        const came = await this.#within(next, beat, renewAt);
        if (came === "silence") return 0;
        if (came === "renew") {
          // The next one is open before this one ends: it begins at the position,
          // and what both deliver is the same.
          const renewed = await this.#open(await this.#host.token(true), signal);
          stream.abort.abort();
          stream = renewed;
          next = Promise.resolve({ done: false, value: stream.first });
          renewAt = Number.POSITIVE_INFINITY;
          continue;
        }
        if (came.done) return this.#backoff.next();
        const { event } = came.value;
        if (event.case === "connected") {
          const { heartbeatInterval, tokenExpiresAt } = event.value;
          // Two beats may be missed, and a little.
          if (heartbeatInterval) beat = 2000 * Number(heartbeatInterval.seconds) + 1000;
          if (tokenExpiresAt) {
            const left = timestampDate(tokenExpiresAt).getTime() - Date.now();
            renewAt = Date.now() + Math.max(left / 2, left - RENEW_BEFORE_MS);
          }
        }
        const effect = fold.apply(came.value);
        if (effect.ring) this.#host.ring(effect.ring);
        if (effect.then === "load") return 0;
        if (event.case === "reconnect") {
          const after = event.value.after;
          return after ? 1000 * Number(after.seconds) + after.nanos / 1e6 : 0;
        }
        this.#backoff.reset();
        this.#host.changed("live");
        next = stream.messages.next();
      }
    } finally {
      stream.abort.abort();
    }
  }

  /** Opens a stream after the position, up to its first message. */
  async #open(token: string, signal: AbortSignal): Promise<Stream> {
    const { client, fold } = this.#host;
    // Stopped while a token was awaited: nobody would end this stream.
    signal.throwIfAborted();
    const abort = new AbortController();
    signal.addEventListener("abort", () => abort.abort(), { signal: abort.signal });
    const request =
      fold.position === undefined
        ? {}
        : { afterRevision: fold.position, ...(fold.epoch && { epoch: fold.epoch }) };
    const options = { headers: authorization(token), signal: abort.signal };
    const messages = client.subscribe(request, options)[Symbol.asyncIterator]();
    try {
      const came = await this.#within(messages.next(), FIRST_WORD_MS, Number.POSITIVE_INFINITY);
      if (typeof came !== "object" || came.done) throw new Error("the stream did not begin");
      return { messages, abort, first: came.value };
    } catch (error) {
      abort.abort();
      throw error;
    }
  }

  /** What was missed while nobody looked; answers when to ask again. */
  async #poll(token: string, signal: AbortSignal): Promise<number> {
    const { client, fold, pollMs } = this.#host;
    const newest = fold.rows[0]?.createdAt;
    if (fold.position === undefined || !newest) await this.#load(token, signal);
    else {
      const request = { limit: 100, since: newest };
      const page = await client.getRecent(request, { headers: authorization(token), signal });
      if (!fold.addPolled(page)) await this.#load(token, signal);
    }
    this.#backoff.reset();
    this.#host.changed("polling");
    return pollMs;
  }

  async #load(token: string, signal: AbortSignal): Promise<void> {
    const { client, fold, pageSize } = this.#host;
    const options = { headers: authorization(token), signal };
    fold.load(await client.getRecent({ limit: pageSize }, options));
  }

  /** Waits for a message, but not for ever. */
  async #within<T>(message: Promise<T>, silenceMs: number, renewAt: number): Promise<T | Woken> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const untilRenewal = Math.max(0, renewAt - Date.now());
    const isRenewal = untilRenewal < silenceMs;
    const woken = new Promise<Woken>((wake) => {
      const wait = Math.min(silenceMs, untilRenewal, LONGEST_TIMER_MS);
      timer = setTimeout(() => wake(isRenewal ? "renew" : "silence"), wait);
    });
    try {
      return await Promise.race([message, woken]);
    } finally {
      clearTimeout(timer);
      // Whoever lost the race fails unheard.
      message.catch(() => undefined);
    }
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (ms <= 0 || signal.aborted) return;
    await new Promise<void>((done) => {
      const timer = setTimeout(done, Math.min(ms, LONGEST_TIMER_MS));
      this.#wake = () => {
        clearTimeout(timer);
        done();
      };
      signal.addEventListener("abort", this.#wake, { once: true });
    });
    this.#wake = undefined;
  }
}

/** The headers of a call with this token. */
export function authorization(token: string): HeadersInit {
  return { authorization: `Bearer ${token}` };
}
