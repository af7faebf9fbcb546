// One stream, kept open: it resumes, renews its token and notices silence; or a poll in
// its place, when nobody looks or something on the way holds streams back.
//
// Promises: a stream goes on from the fold's position, so nothing is missed however
// often it is cut; the token is asked for again before it ends, and the next stream
// is open before the former one closes. Nothing that fails is the end: it is tried again
// until it is stopped, more slowly where the token is refused.

import { Code, ConnectError, type CallOptions, type Client } from "@connectrpc/connect";
import { Backoff } from "./backoff.js";
import type { Arrival } from "./client.js";
import type { Fold, Message } from "./fold.js";
import type {
  NotificationService,
  SubscribeResponse,
} from "./gen/doorbell/v1/notifications_pb.js";
import { MuteError } from "./grpcweb.js";
import type { Notification } from "./notification.js";
import { cureOf, retryDelayOf, TokenError, type Diagnosis } from "./problem.js";
import type { Problem, Status } from "./snapshot.js";
import { LONGEST_TIMER_MS, sleep, throwIfAborted } from "./wait.js";
import { headOf, messageOf, pageOf } from "./wire.js";

/** What a connection asks of its owner. */
export interface Host {
  readonly client: Client<typeof NotificationService>;
  readonly fold: Fold;
  readonly diagnosis: Diagnosis;
  readonly pageSize: number;
  readonly pollMs: number;
  readonly random: () => number;
  /** A token; a new one where the last was refused or ends soon. It does not take for
   * ever. */
  token(fresh: boolean): Promise<string>;
  isOnline(): boolean;
  /** The fold or the status changed. */
  changed(status: Status, problem?: Problem): void;
  /** These are new: announce them. */
  ring(notifications: readonly Notification[], how: Arrival): void;
}

/** A token is renewed so long before it ends, or after half of a short life. */
const RENEW_BEFORE_MS = 30_000;
/** And a stream is not replaced sooner: the clocks may differ. */
const RENEW_AFTER_MS = 5_000;
/** Until a stream has said how often it beats. */
const FIRST_WORD_MS = 15_000;
/** For the answer to a call. */
const CALL_MS = 15_000;
/** What lasted for so long worked: the next failure is the first. */
const STEADY_MS = 10_000;
/** What is refused may be right later, when the service has the key or the page has
 * signed in: it is asked at least so often. */
const REFUSED_MS = 60_000;
/** So many streams in a row that say nothing are held back. */
const MOST_MUTE = 2;
/** Then it is asked so often what is new. */
const DELAYED_POLL_MS = 15_000;
/** And a stream is tried after so long, twice as long, and so on up to a bound. */
const LISTEN_MS = 60_000;
const LISTEN_LONGEST_MS = 600_000;

/** A stream, and what is known of it. */
interface Stream {
  readonly messages: AsyncIterator<SubscribeResponse>;
  readonly abort: AbortController;
  /** What is being read. */
  next: Promise<Message | undefined> | undefined;
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
  /** After refusals. */
  readonly #refusals: Backoff;
  /** After ends that are none: a reset, a reconnect, silence. */
  readonly #returns: Backoff;
  /** Between attempts to stream where streams are held back. */
  readonly #listens: Backoff;
  #run: AbortController | undefined;
  #polls = false;
  #status: Status = "connecting";
  #problem: Problem | undefined;
  /** The token that was used last, where that was refused. */
  #refused: string | undefined;
  /** Streams in a row that said nothing. */
  #mutes = 0;
  /** When a stream is tried again, where they are held back. */
  #listenAt = 0;
  #pausing: AbortController | undefined;

  constructor(host: Host) {
    this.#host = host;
    this.#backoff = new Backoff(host.random);
    this.#refusals = new Backoff(host.random, REFUSED_MS);
    this.#returns = new Backoff(host.random);
    // No chance in it: it is this client alone that waits.
    this.#listens = new Backoff(() => 1, LISTEN_LONGEST_MS, LISTEN_MS);
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

  /** Does not wait any longer: the network is back, or the page is shown. */
  wake(): void {
    this.#backoff.reset();
    this.#refusals.reset();
    this.#pausing?.abort();
  }

  /** The same because somebody asks: then a stream is tried, too. */
  retry(): void {
    this.#listenAt = 0;
    this.wake();
  }

  /** There is a token: another one than that which was refused is tried at once. */
  offer(token: string): void {
    if (this.#refused !== undefined && token !== this.#refused) this.#pausing?.abort();
  }

  /** Begins anew: the network went away, which a stream may not notice for long, or the
   * position is of no use. */
  interrupt(): void {
    if (!this.#run) return;
    const polls = this.#polls;
    this.stop();
    this.start(polls);
  }

  async #loop(signal: AbortSignal, polls: boolean): Promise<void> {
    const host = this.#host;
    this.#status = "connecting";
    let fresh = this.#refused !== undefined;
    while (!signal.aborted) {
      if (!host.isOnline()) {
        host.changed("offline");
        await this.#pause(LONGEST_TIMER_MS, signal);
        continue;
      }
      const delayed = this.#mutes >= MOST_MUTE;
      const asks = polls || (delayed && Date.now() < this.#listenAt);
      let token: string | undefined;
      try {
        host.changed(this.#status, this.#problem);
        // Who was told of it may have stopped it: the next token may be another user's.
        if (signal.aborted) return;
        token = await host.token(fresh);
        if (signal.aborted) return;
        fresh = false;
        this.#status = polls ? "polling" : delayed ? "delayed" : "reconnecting";
        const asked = asks
          ? await this.#poll(token, polls ? "polling" : "delayed", signal)
          : await this.#stream(token, signal);
        if (signal.aborted) return;
        const wait = asks ? asked : Math.max(asked, this.#returns.again());
        if (wait > 0) host.changed(this.#status, this.#problem);
        await this.#pause(wait, signal);
      } catch (error) {
        if (signal.aborted) return;
        const problem = await host.diagnosis.of(error);
        if (signal.aborted) return;
        this.#problem = problem;
        const cure = cureOf(error);
        fresh = cure !== "wait" || error instanceof TokenError;
        const isFirst = cure === "token" && this.#refused === undefined;
        this.#refused = cure === "wait" ? undefined : token;
        const isMute = error instanceof MuteError;
        if (isMute) this.#mutes += 1;
        else if (!asks) this.#mutes = 0;
        const isHeld = isMute && this.#mutes >= MOST_MUTE;
        if (isHeld) this.#listenAt = Date.now() + this.#listens.next();
        this.#status = isHeld ? "delayed" : cure === "none" ? "failed" : "reconnecting";
        host.changed(host.isOnline() ? this.#status : "offline", problem);
        // The first token that is refused is replaced at once.
        if (isFirst || isHeld) continue;
        const backoff = cure === "wait" ? this.#backoff : this.#refusals;
        await this.#pause(retryDelayOf(error) + backoff.next(), signal);
      }
    }
  }

  /** What failed before is over. */
  #worked(): void {
    this.#backoff.reset();
    this.#refusals.reset();
    this.#returns.reset();
  }

  /** Streams until it is to come back, and answers how long the service asks it to
   * wait. */
  async #stream(token: string, signal: AbortSignal): Promise<number> {
    const { fold } = this.#host;
    if (fold.state.position === undefined) await this.#load(token, signal);
    let stream = await this.#open(token, signal);
    this.#problem = undefined;
    this.#refused = undefined;
    this.#mutes = 0;
    this.#listens.reset();
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
        if (!came) throw new ConnectError("the stream ended", Code.Unavailable);
        const { event } = came;
        if (event.kind === "connected") {
          // Two beats may be missed, and a little.
          if (event.heartbeat > 0) stream.patience = 2 * event.heartbeat + 1000;
          if (event.tokenEnds > 0) void this.#renew(stream, event.tokenEnds, signal);
        }
        const effect = fold.apply(came);
        if (effect.ring) this.#host.ring([effect.ring], "live");
        if (effect.then === "load") return 0;
        if (event.kind === "reconnect") return event.after;
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
    const { position, epoch } = fold.state;
    // Stopped while a token was awaited: nobody would end this stream.
    throwIfAborted(signal);
    const abort = new AbortController();
    const cut = () => abort.abort();
    signal.addEventListener("abort", cut);
    // Not by the option `signal`, which apps on phones do not know.
    abort.signal.addEventListener("abort", () => signal.removeEventListener("abort", cut));
    const request = position === undefined ? {} : { afterRevision: BigInt(position), epoch };
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
      throwIfAborted(signal);
      if (first === "silence") {
        throw new MuteError(
          `The stream is open and says nothing: a proxy or another program on the way holds it back. Let it pass responses on without buffering. Until then what is new is asked for.`,
        );
      }
      if (typeof first !== "object") throw new ConnectError("the stream ended", Code.Unavailable);
      stream.next = Promise.resolve(first);
      return stream;
    } catch (error) {
      abort.abort();
      throw error;
    }
  }

  /** Asks what was missed; answers when to ask again. The head says whether there is
   * anything: mostly there is not. */
  async #poll(token: string, status: "polling" | "delayed", signal: AbortSignal): Promise<number> {
    const { client, fold, pollMs, pageSize } = this.#host;
    const options = callOptions(token, signal);
    if (fold.state.position === undefined) await this.#load(token, signal);
    else {
      const { head } = await client.getUnreadCount({}, options);
      throwIfAborted(signal);
      if (headOf(head).revision !== fold.state.reached) {
        const page = await client.getRecent({ limit: pageSize }, options);
        throwIfAborted(signal);
        const added = fold.addPolled(pageOf(page));
        if (added.length > 0) this.#host.ring([...added].reverse(), "polled");
      }
    }
    this.#worked();
    this.#refused = undefined;
    const isDelayed = status === "delayed";
    if (!isDelayed) this.#problem = undefined;
    this.#host.changed(status, this.#problem);
    return isDelayed ? Math.min(pollMs, DELAYED_POLL_MS) : pollMs;
  }

  async #load(token: string, signal: AbortSignal): Promise<void> {
    const { client, fold, pageSize } = this.#host;
    const page = await client.getRecent({ limit: pageSize }, callOptions(token, signal));
    // Meanwhile it may have become somebody else's inbox.
    throwIfAborted(signal);
    fold.load(pageOf(page));
    this.#host.changed(this.#status, this.#problem);
  }

  /** Waits, unless it is stopped or told to try now. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const pausing = new AbortController();
    this.#pausing = pausing;
    await sleep(ms, pausing.signal);
  }
}

/** The next message of a stream, nothing at its end, or what there is in its place. */
async function take(stream: Stream): Promise<Message | undefined | "silence" | "successor"> {
  if (stream.successor) return "successor";
  stream.next ??= stream.messages.next().then(({ done, value }) => (done ? undefined : messageOf(value)));
  const { next } = stream;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => resolve("silence"), Math.min(stream.patience, LONGEST_TIMER_MS));
      stream.succeed = () => resolve("successor");
      const came = (message: Message | undefined) => {
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
