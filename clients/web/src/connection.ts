// One stream, kept open: it resumes, renews its token and notices silence; or, when
// nobody looks, a poll in its place.
//
// Promises: a stream goes on from the fold's position, so nothing is missed however
// often it is cut; the token is asked for again before it ends, and the next stream
// is open before the former one closes.

import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type CallOptions, type Client } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import { cureOf, retryDelayOf } from "./error.js";
import type { Fold } from "./fold.js";
import type {
  Notification,
  NotificationService,
  SubscribeResponse,
} from "./gen/doorbell/v1/notifications_pb.js";
import { LONGEST_TIMER_MS, sleep } from "./wait.js";

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
  /** A token; a new one where the last was refused or ends soon. It does not take for
   * ever. */
  token(fresh: boolean): Promise<string>;
  isOnline(): boolean;
  /** The fold or the status changed. */
  changed(status: Status, error?: unknown): void;
  ring(notification: Notification): void;
}

/** A token is renewed so long before it ends, or after half of a short life. */
const RENEW_BEFORE_MS = 30_000;
/** And a stream is not replaced sooner: the clocks may differ. */
const RENEW_AFTER_MS = 5_000;
/** Until a stream has said how often it beats. */
const FIRST_WORD_MS = 20_000;
/** For the answer to a call. */
const CALL_MS = 15_000;
/** What lasted for so long worked: the next failure is the first. */
const STEADY_MS = 10_000;
/** A token that is refused may have come late; so many in a row did not. */
const MOST_REFUSALS = 4;

/** A stream, and what is known of it. */
interface Stream {
  readonly messages: AsyncIterator<SubscribeResponse>;
  readonly abort: AbortController;
  /** What is being read. */
  next: Promise<IteratorResult<SubscribeResponse>> | undefined;
  /** Silence for so long is its end. */
  patience: number;
  /** The stream that takes over, once it is open. */
  successor: Stream | undefined;
  /** Tells who waits for a message that there is a successor. */
  succeed: (() => void) | undefined;
}

/** Runs from `start` to `stop`. */
export class Connection {
  readonly #host: Host;
  /** After failures. */
  readonly #backoff: Backoff;
  /** After ends that are none: a reset, a reconnect, silence. */
  readonly #returns: Backoff;
  #run: AbortController | undefined;
  #polls = false;
  /** Tokens that were refused in a row. */
  #refusals = 0;
  #pausing: AbortController | undefined;

  constructor(host: Host) {
    this.#host = host;
    this.#backoff = new Backoff(host.random);
    this.#returns = new Backoff(host.random);
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
    this.#pausing?.abort();
  }

  /** Does not wait any longer: the network is back, or somebody asks. */
  retry(): void {
    this.#backoff.reset();
    this.#pausing?.abort();
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
    let status: Status = "connecting";
    while (!signal.aborted) {
      if (!host.isOnline()) {
        host.changed("offline");
        await this.#pause(LONGEST_TIMER_MS, signal);
        continue;
      }
      try {
        host.changed(status);
        const token = await host.token(this.#refusals > 0);
        if (signal.aborted) return;
        status = polls ? "polling" : "reconnecting";
        const asked = polls ? await this.#poll(token, signal) : await this.#stream(token, signal);
        if (signal.aborted) return;
        const wait = polls ? asked : Math.max(asked, this.#returns.again());
        if (wait > 0) host.changed(status);
        await this.#pause(wait, signal);
      } catch (error) {
        if (signal.aborted) return;
        const cure = cureOf(error);
        if (cure === "token") this.#refusals += 1;
        if (cure === "none" || this.#refusals > MOST_REFUSALS) {
          this.#refusals = 0;
          host.changed("failed", error);
          return;
        }
        status = "reconnecting";
        host.changed(host.isOnline() ? "reconnecting" : "offline", error);
        // The first token that is refused is replaced at once.
        const isFirst = cure === "token" && this.#refusals === 1;
        const wait = isFirst ? 0 : retryDelayOf(error) + this.#backoff.next();
        await this.#pause(wait, signal);
      }
    }
  }

  /** What failed before is over. */
  #worked(): void {
    this.#backoff.reset();
    this.#returns.reset();
    this.#refusals = 0;
  }

  /** Streams until it is to come back, and answers how long the service asks it to
   * wait. */
  async #stream(token: string, signal: AbortSignal): Promise<number> {
    const { fold } = this.#host;
    if (fold.position === undefined) await this.#load(token, signal);
    let stream = await this.#open(token, signal);
    const began = Date.now();
    try {
      for (;;) {
        const came = await take(stream);
        if (came === "silence") return 0;
        if (came === "successor") {
          // It began at the position, and what both deliver is the same.
          stream.abort.abort();
          if (stream.successor) stream = stream.successor;
          continue;
        }
        if (came.done) throw new ConnectError("the stream ended", Code.Unavailable);
        const { event } = came.value;
        if (event.case === "connected") {
          const { heartbeatInterval, tokenExpiresAt } = event.value;
          // Two beats may be missed, and a little.
          if (heartbeatInterval) stream.patience = 2 * durationMs(heartbeatInterval) + 1000;
          if (tokenExpiresAt) void this.#renew(stream, timestampMs(tokenExpiresAt), signal);
        }
        const effect = fold.apply(came.value);
        if (effect.ring) this.#host.ring(effect.ring);
        if (effect.then === "load") return 0;
        if (event.case === "reconnect") {
          return event.value.after ? durationMs(event.value.after) : 0;
        }
        this.#host.changed("live");
      }
    } finally {
      if (Date.now() - began >= STEADY_MS) this.#worked();
      stream.abort.abort();
      stream.successor?.abort.abort();
    }
  }

  /** Opens the successor of a stream before its token ends, while that is read; tries
   * until there is one or the stream is gone. */
  async #renew(stream: Stream, expiresAt: number, signal: AbortSignal): Promise<void> {
    const left = expiresAt - Date.now();
    // The service has just taken this token, so it is the clock here that is wrong:
    // the service says when it ends.
    if (left <= 0) return;
    const backoff = new Backoff(this.#host.random);
    let wait = Math.max(left / 2, left - RENEW_BEFORE_MS, RENEW_AFTER_MS);
    for (;;) {
      await sleep(wait, stream.abort.signal);
      if (stream.abort.signal.aborted) return;
      try {
        const successor = await this.#open(await this.#host.token(true), signal);
        stream.successor = successor;
        if (stream.abort.signal.aborted) successor.abort.abort();
        else stream.succeed?.();
        return;
      } catch {
        // The stream is still good, and tells itself when it ends.
        wait = backoff.next();
      }
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
    const stream: Stream = {
      messages: client.subscribe(request, options)[Symbol.asyncIterator](),
      abort,
      next: undefined,
      patience: FIRST_WORD_MS,
      successor: undefined,
      succeed: undefined,
    };
    try {
      const first = await take(stream);
      signal.throwIfAborted();
      if (typeof first !== "object" || first.done) throw new Error("the stream did not begin");
      stream.next = Promise.resolve(first);
      return stream;
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
      const page = await client.getRecent(request, callOptions(token, signal));
      signal.throwIfAborted();
      if (!fold.addPolled(page)) await this.#load(token, signal);
    }
    this.#worked();
    this.#host.changed("polling");
    return pollMs;
  }

  async #load(token: string, signal: AbortSignal): Promise<void> {
    const { client, fold, pageSize } = this.#host;
    const page = await client.getRecent({ limit: pageSize }, callOptions(token, signal));
    // Meanwhile it may have become somebody else's inbox.
    signal.throwIfAborted();
    fold.load(page);
  }

  /** Waits, unless it is stopped or told to try now. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const pausing = new AbortController();
    this.#pausing = pausing;
    await sleep(ms, pausing.signal);
  }
}

/** The next message of a stream, or what there is in its place. */
async function take(
  stream: Stream,
): Promise<IteratorResult<SubscribeResponse> | "silence" | "successor"> {
  if (stream.successor) return "successor";
  stream.next ??= stream.messages.next();
  const { next } = stream;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => resolve("silence"), Math.min(stream.patience, LONGEST_TIMER_MS));
      stream.succeed = () => resolve("successor");
      const came = (message: IteratorResult<SubscribeResponse>) => {
        stream.next = undefined;
        resolve(message);
      };
      next.then(came, reject);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** The options of a call with this token, which does not take for ever. */
export function callOptions(token: string, signal?: AbortSignal): CallOptions {
  return { headers: authorization(token), timeoutMs: CALL_MS, ...(signal && { signal }) };
}

function authorization(token: string): HeadersInit {
  return { authorization: `Bearer ${token}` };
}
