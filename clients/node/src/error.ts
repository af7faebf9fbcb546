// What goes wrong, as one kind of exception.

import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { pathOf } from "./names.js";

/** A code of gRPC, as the guide to the API writes them. */
export type ErrorCode =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** A field that is wrong, and what is wrong with it. */
export interface Violation {
  /** By the name that it has here: `userId`, `content.title`. */
  readonly field: string;
  /** For people. */
  readonly description: string;
}

interface Facts {
  readonly reason?: string | undefined;
  readonly violations?: readonly Violation[];
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** Why a call failed. Its message is for people, and names the call. */
export class DoorbellError extends Error {
  override readonly name = "DoorbellError";
  /** What kind of failure it is. */
  readonly code: ErrorCode;
  /** Why, in the service's words: `QUEUE_FULL`, `TOKEN_EXPIRED`. Absent where it is not the
   * service that says so: nothing answers, a proxy does, or it was not asked. */
  readonly reason: string | undefined;
  /** The fields that are wrong; none where it is about something else. */
  readonly violations: readonly Violation[];
  /** How long the service asks to wait before the next attempt, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, facts: Facts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.reason = facts.reason;
    this.violations = facts.violations ?? [];
    this.retryAfterMs = facts.retryAfterMs;
  }

  /** Whether it passes: the same call may succeed a little later. */
  get isPassing(): boolean {
    return this.code === "UNAVAILABLE" || this.code === "RESOURCE_EXHAUSTED";
  }
}

/** What the caller gave cannot be: said here, without a call. */
export function invalid(field: string, description: string, cause?: unknown): DoorbellError {
  const violations = [{ field, description }];
  return new DoorbellError("INVALID_ARGUMENT", `${field}: ${description}`, { violations, cause });
}

/** What a call failed with. */
export function errorOf(call: string, thrown: unknown): DoorbellError {
  if (thrown instanceof DoorbellError) return thrown;
  const error = ConnectError.from(thrown);
  const reason = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "doorbell.v1")?.reason;
  const violations = error
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations)
    .map(({ field, description }) => ({ field: pathOf(field), description }));
  const [delay] = error.findDetails(RetryInfoSchema).flatMap(({ retryDelay }) => retryDelay ?? []);
  const retryAfterMs = delay && durationMs(delay);
  const facts = { reason, violations, retryAfterMs, cause: thrown };
  const said = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  if (reason === undefined && isBroken(error)) {
    const message = `${call}: the connection broke before there was an answer (${error.rawMessage})`;
    return new DoorbellError("UNAVAILABLE", message, facts);
  }
  const message = `${call}: ${said || error.rawMessage}${reason === undefined ? "" : ` (${reason})`}`;
  return new DoorbellError(codeOf(error.code), message, facts);
}

/** `InvalidArgument` is `INVALID_ARGUMENT`; gRPC writes one of them otherwise. */
function codeOf(code: Code): ErrorCode {
  if (code === Code.Canceled) return "CANCELLED";
  return Code[code].replace(/(?!^)[A-Z]/g, "_$&").toUpperCase() as ErrorCode;
}

/** Whether the connection went while the answer was awaited. What the service itself answers
 * has a reason; this is what the library below makes of a socket or a stream that ended. What
 * TLS refuses (a certificate, or EPROTO: no TLS at all) does not pass, and is none of it. */
function isBroken({ code, rawMessage, cause }: ConnectError): boolean {
  if (code === Code.Canceled || code === Code.Aborted) return true;
  if (code !== Code.Internal && code !== Code.Unknown) return false;
  for (let at: unknown = cause; at instanceof Error; at = at.cause) {
    if ("code" in at && /^(ERR_HTTP2_|ERR_STREAM_|E(?!PROTO$)[A-Z]+$)/.test(String(at.code))) return true;
  }
  return /^http\/2 stream closed with error code/.test(rawMessage);
}
