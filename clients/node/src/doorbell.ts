// The service, as one object.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { methodOf, RULES, type CallName, type CallOptions, type Calls, type ResponseOf } from "./calls.js";
import { DoorbellError, errorOf, invalid } from "./error.js";
import { followUps, type FollowUp, type FollowUpsOptions } from "./followUps.js";
import { Pages } from "./pages.js";
import { pause, pauseAfter } from "./pause.js";
import { messageOf, plainOf } from "./plain.js";
import { milliseconds, type Span } from "./span.js";

/** Where the service is, and who calls. */
export interface DoorbellOptions {
  /** Where it is: `https://doorbell.example.com`. Else what `DOORBELL_URL` says, else
   * `http://127.0.0.1:50051`. */
  readonly url?: string | undefined;
  /** A token that may send, or what makes one: it is asked before each attempt. Else what
   * `DOORBELL_TOKEN` says. A function has the call's time to answer. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** How long a call may take in all, retries among it: 10 seconds. */
  readonly timeout?: Span | undefined;
  /** How many times a call is repeated at most while what it fails with passes: 10. Within its
   * time, that is; 0 for never. */
  readonly retries?: number | undefined;
  /** The certificates to trust the service by, in PEM, in place of the system's. */
  readonly ca?: string | Buffer | undefined;
}

// A connection that died is known, and a call on it repeated, before ten seconds are over. One
// that was idle is asked before the next call; asking it all the while would throw, out of a
// timer, once it is gone.
const PINGS = { pingIntervalMs: 5_000, pingTimeoutMs: 3_000 };

/** A connection, which is made when it is needed, and what speaks gRPC on it. */
interface Way {
  readonly connection: Http2SessionManager;
  readonly transport: Transport;
}

/** A client of Doorbell for backends. It holds one connection, made at the first call and
 * again when it is gone; one object is for the whole program. A program that has nothing
 * else to do ends while it is there.
 *
 * Its calls are those of the proto, in camelCase: plain objects in and out. Each rejects with
 * a `DoorbellError`. */
export interface Doorbell extends Calls {}
export class Doorbell {
  readonly #url: string;
  readonly #token: DoorbellOptions["token"];
  readonly #timeout: number;
  readonly #retries: number;
  readonly #ca: DoorbellOptions["ca"];
  #way: Way;
  #isClosed = false;

  /** Throws where the URL is none. Connects to nothing yet, and that there is no token is said by
   * the first call: who builds a site makes this object as well. */
  constructor(options: DoorbellOptions = {}) {
    const url = options.url || process.env["DOORBELL_URL"] || "http://127.0.0.1:50051";
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw invalid("url", `(or DOORBELL_URL) must be an http:// or https:// URL, and is ${url}`);
    }
    this.#url = url;
    this.#token = options.token || process.env["DOORBELL_TOKEN"]?.trim();
    this.#timeout = milliseconds("timeout", options.timeout ?? "10s");
    this.#retries = options.retries ?? 10;
    this.#ca = options.ca;
    this.#way = this.#connect();
  }

  static {
    for (const name of Object.keys(RULES) as CallName[]) {
      const isPaged = methodOf(name).input.field["pageToken"] !== undefined;
      function call(this: Doorbell, request: object = {}, options: CallOptions = {}) {
        if (!isPaged) return this.#call(name, request, options);
        const { pageToken } = request as { pageToken?: string };
        return new Pages((next) => this.#call(name, { ...request, pageToken: next ?? pageToken }, options));
      }
      Object.defineProperty(this.prototype, name, { value: call, writable: true, configurable: true });
    }
  }

  /** The notifications that nobody looked at in time, one after the other, without an end:
   * where there are no more it waits for the next, unless `follow` is `false`. Store the `position` of each once its work
   * is done, and give it as `after` when you start again: then each comes at least once, and
   * none is left out. What passes (the service is away) it waits out; all else it throws. Where
   * the database was restored since, all that is kept comes anew. */
  followUps(options: FollowUpsOptions): AsyncGenerator<FollowUp, void, undefined> {
    return followUps(this, options);
  }

  /** Ends the connection, for good. Calls that are under way, and later ones, reject with
   * `CANCELLED`. */
  close(): void {
    this.#isClosed = true;
    this.#way.connection.abort();
  }

  async #call<Name extends CallName>(
    name: Name,
    request: object,
    { timeout, retries = this.#retries, signal, token }: CallOptions,
  ): Promise<ResponseOf<Name>> {
    const method = methodOf(name);
    const { isKeyed, onceWith } = RULES[name];
    const fields: Record<string, unknown> = { ...request };
    if (isKeyed) fields["idempotencyKey"] ??= randomUUID();
    const message = messageOf(method.input, fields);
    const attempts = onceWith !== undefined && fields[onceWith] ? 1 : 1 + retries;
    // It begins to wait for an answer once the service need not wait for something to say.
    const wait = milliseconds("wait", (fields["wait"] as Span | undefined) ?? 0);
    const patience = timeout === undefined ? this.#timeout : milliseconds("timeout", timeout);
    const closed = () => new DoorbellError("CANCELLED", `${name}: the client was closed`);
    const deadline = performance.now() + patience + wait;
    for (let failures = 0; ; failures += 1) {
      try {
        if (this.#isClosed) throw closed();
        const left = () => Math.ceil(deadline - performance.now());
        const bearer = token ?? (await this.#ask(left()));
        const header = { authorization: `Bearer ${bearer}` };
        const answer = await this.#way.transport.unary(method, signal, left(), header, message);
        return plainOf(method.output, answer.message) as ResponseOf<Name>;
      } catch (thrown) {
        if (signal?.aborted) {
          throw new DoorbellError("CANCELLED", `${name}: was cancelled`, { cause: signal.reason });
        }
        if (this.#isClosed) throw closed();
        const error = errorOf(name, thrown);
        if (error.code === "DEADLINE_EXCEEDED" && error.reason === undefined) {
          // One that ends while it is asked whether it lives is asked for ever.
          if (!["open", "idle"].includes(this.#way.connection.state())) this.#way = this.#connect();
          const message = `${name}: no answer of ${this.#url} within ${patience} ms; it may have been done`;
          throw new DoorbellError(error.code, message, { cause: thrown });
        }
        const rest = pauseAfter(error, failures);
        const isOver = failures + 1 >= attempts || performance.now() + rest >= deadline;
        if (!error.isPassing || isOver) throw error;
        await pause(rest, signal);
      }
    }
  }

  #connect(): Way {
    const connection = new Http2SessionManager(this.#url, PINGS, this.#ca ? { ca: this.#ca } : {});
    return { connection, transport: createGrpcTransport({ baseUrl: this.#url, sessionManager: connection }) };
  }

  /** A token for one attempt, which has so many milliseconds. */
  async #ask(left: number): Promise<string> {
    if (!this.#token) {
      const message = "there is no token: give one that may send, or set DOORBELL_TOKEN";
      throw new DoorbellError("UNAUTHENTICATED", message);
    }
    if (typeof this.#token === "string") return this.#token;
    const late = new AbortController();
    const failed = (what: string, cause?: unknown) =>
      new DoorbellError("UNAUTHENTICATED", `the function that makes tokens ${what}`, { cause });
    try {
      const isLate = sleep(left, undefined, { signal: late.signal });
      const token = await Promise.race([this.#token(), isLate]);
      if (typeof token === "string" && token !== "") return token;
      throw failed(token === undefined ? "took too long, or gave none" : "gave none");
    } catch (cause) {
      if (cause instanceof DoorbellError) throw cause;
      throw failed(`failed: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
    } finally {
      late.abort();
    }
  }
}
