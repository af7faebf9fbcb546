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

/** What to do about an error of a call. */
export function cureOf(error: unknown): Cure {
  switch (ConnectError.from(error).code) {
    case Code.Unauthenticated:
      return "token";
    case Code.PermissionDenied:
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.Unimplemented:
      return "none";
    default:
      return "wait";
  }
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
