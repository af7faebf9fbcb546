// What stands in the way: what it means for who waits, and what to say of it.

import { fromBinary } from "@bufbuild/protobuf";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { fieldsOf, MuteError } from "./grpcweb.js";
import { browserFetch, type Fetch } from "./outside.js";
import type { Problem, ProblemKind } from "./snapshot.js";
import { within } from "./wait.js";

/** What `getToken` gave is of no use. The message says what to do. */
export class TokenError extends Error {}

/** How to go on after an error. */
export type Cure =
  /** Try again later. */
  | "wait"
  /** Ask for a token, then try again. */
  | "token"
  /** This will be refused again: only another token may help. */
  | "none";

/** What to do about an error of a call. Only the service's own word is a refusal, which
 * it gives with a reason (`google.rpc.ErrorInfo`): what a proxy answers while the service
 * is replaced behind it is over soon. */
export function cureOf(error: unknown): Cure {
  const { code, details } = ConnectError.from(error);
  if (code === Code.Unauthenticated) return "token";
  const isFinal =
    code === Code.PermissionDenied ||
    code === Code.InvalidArgument ||
    code === Code.FailedPrecondition;
  const hasReason = details.some(
    (detail) => "type" in detail && detail.type === "google.rpc.ErrorInfo",
  );
  return isFinal && hasReason ? "none" : "wait";
}

/** How long the service asks to wait, in milliseconds: the `google.rpc.RetryInfo` of
 * an error, and nothing where it has none. */
export function retryDelayOf(error: unknown): number {
  for (const detail of ConnectError.from(error).details) {
    if (!("type" in detail) || detail.type !== "google.rpc.RetryInfo") continue;
    try {
      // `retry_delay`.
      const [duration] = fieldsOf(detail.value, 1);
      if (duration) return durationMs(fromBinary(DurationSchema, duration));
    } catch {
      // It is not what it says it is.
    }
  }
  return 0;
}

/** A service that is there answers within so long, whatever it answers. */
const PROBE_MS = 3000;

/** Tells apart what looks alike to a page: `fetch` fails, and says no more. */
export class Diagnosis {
  readonly #service: URL | undefined;
  readonly #baseUrl: string;
  readonly #fetch: Fetch;
  /** The page's policy forbade a connection to the service. */
  #isForbidden = false;

  constructor(baseUrl: string, fetch: Fetch = browserFetch) {
    this.#baseUrl = baseUrl;
    this.#fetch = fetch;
    const { location } = globalThis as Partial<typeof globalThis>;
    try {
      this.#service = new URL(baseUrl, location?.href);
    } catch {
      // Then no call comes through, and the browser says why.
    }
  }

  /** Listens to what the browser reports. */
  watch(document: Document | undefined, signal: AbortSignal): void {
    const hear = ({ blockedURI, disposition }: SecurityPolicyViolationEvent) => {
      const isOurs = this.#service && blockedURI.startsWith(this.#service.origin);
      if (disposition === "enforce" && isOurs) this.#isForbidden = true;
    };
    document?.addEventListener("securitypolicyviolation", hear, { signal });
  }

  /** What stands in the way, and what to do about it. */
  async of(error: unknown): Promise<Problem> {
    const { code, cause, rawMessage } = ConnectError.from(error);
    if (error instanceof TokenError) return { kind: "token", message: error.message };
    if (error instanceof MuteError) return { kind: "held", message: error.message };
    if (cause instanceof TypeError) return await this.#unreached(cause);
    const at = this.#baseUrl;
    const isRefused = code === Code.Unauthenticated || code === Code.PermissionDenied;
    if (isRefused && cureOf(error) !== "wait") {
      const message = `${at} refuses the token: ${rawMessage}. See the claims and keys that the service is set up with.`;
      return { kind: "refused", message };
    }
    if (code === Code.DeadlineExceeded) {
      const message = `${at} did not answer in time. It is asked again.`;
      return { kind: "unreachable", message };
    }
    return { kind: "service", message: `${at} answers: ${rawMessage}. It is asked again.` };
  }

  async #unreached({ message: said }: TypeError): Promise<Problem> {
    const at = this.#baseUrl;
    const { location } = globalThis as Partial<typeof globalThis>;
    // What is no page may read any answer.
    const isForeign = location !== undefined && this.#service?.origin !== location.origin;
    const isReached = isForeign && (await this.#isThere());
    if (this.#isForbidden) {
      this.#isForbidden = false;
      const message = `The Content-Security-Policy of this page forbids ${at}: add it to connect-src.`;
      return { kind: "csp", message };
    }
    if (isReached) {
      const message = `${at} is there and does not let this page read its answers: add ${location?.origin} to DOORBELL_CORS_ORIGINS.`;
      return { kind: "cors", message };
    }
    const message = `${at} cannot be reached (${said}): it is down, or the way to it is. It is tried again.`;
    return { kind: "unreachable", message };
  }

  /** Whether anything answers there. A page may know that much without being allowed to
   * read the answer. */
  async #isThere(): Promise<boolean> {
    try {
      const probe = this.#fetch(this.#baseUrl, { mode: "no-cors", cache: "no-store" });
      await within(probe, PROBE_MS, this.#baseUrl);
      return true;
    } catch {
      return false;
    }
  }
}

/** Tells the console what stands in the way: once of each kind, and not of what is over
 * with the next attempt. */
export class Complaints {
  readonly #said = new Set<ProblemKind>();
  /** What stood in the way last. */
  #problem: Problem | undefined;

  hear(problem: Problem | undefined): void {
    if (problem === this.#problem) return;
    const isAgain = problem?.kind === this.#problem?.kind;
    this.#problem = problem;
    if (!problem || this.#said.has(problem.kind)) return;
    if (!isAgain && problem.kind !== "token") return;
    this.#said.add(problem.kind);
    console.error(`Doorbell: ${problem.message}`);
  }
}
