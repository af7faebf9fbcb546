// What an error means for who waits: over soon, a new token, or the end.

import { fromBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReconnectSchema } from "./gen/doorbell/v1/notifications_pb.js";

/** How to go on after an error. */
export type Cure =
  /** Try again later. */
  | "wait"
  /** Ask for a token, then try again. */
  | "token"
  /** Nothing that this client could do would help. */
  | "none";

/** What to do about an error of a call. Only the service's own word ends it for good,
 * which it gives with a reason (`google.rpc.ErrorInfo`): what a proxy answers while the
 * service is replaced behind it is over soon. */
export function cureOf(error: unknown): Cure {
  const { code, details } = ConnectError.from(error);
  if (code === Code.Unauthenticated) return "token";
  const isFinal = code === Code.PermissionDenied || code === Code.InvalidArgument;
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
      // On the wire it is what `Reconnect` is: a duration, numbered 1.
      const { after } = fromBinary(ReconnectSchema, detail.value);
      return after ? durationMs(after) : 0;
    } catch {
      return 0;
    }
  }
  return 0;
}
