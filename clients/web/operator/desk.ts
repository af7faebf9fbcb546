// The service, as an operator with a token has it. The token is here and nowhere else: a
// reload of the page forgets it.

import { Code, ConnectError, createClient, type Client, type Transport } from "@connectrpc/connect";
import { OperatorService } from "../src/gen/doorbell/v1/operators_pb.js";
import { SendService } from "../src/gen/doorbell/v1/sends_pb.js";
import { TopicService } from "../src/gen/doorbell/v1/topics_pb.js";
import { fieldsOf, grpcWeb } from "../src/grpcweb.js";

/** An operator is told within so long, whatever they are told. */
const TIMEOUT_MS = 30_000;
/** An erasure of many takes its time. */
const ERASURE_MS = 600_000;

export interface Desk {
  readonly operators: Client<typeof OperatorService>;
  readonly sends: Client<typeof SendService>;
  readonly topics: Client<typeof TopicService>;
}

/** What the service says, for people. */
export function reasonOf(error: unknown): string {
  return error instanceof ConnectError ? error.rawMessage : String(error);
}

/** Calls with this token; `leave` hears why it is worth nothing any more. */
function transportOf(token: string, leave: (why: string) => void): Transport {
  const inner = grpcWeb(location.origin);
  return {
    ...inner,
    async unary(method, signal, timeoutMs, header, input) {
      const headers = new Headers(header);
      headers.set("authorization", `Bearer ${token}`);
      const most = method.name.startsWith("Erase") ? ERASURE_MS : TIMEOUT_MS;
      try {
        return await inner.unary(method, signal, timeoutMs ?? most, headers, input);
      } catch (error) {
        if (ConnectError.from(error).code === Code.Unauthenticated) leave(reasonOf(error));
        throw error;
      }
    },
  };
}

/** The desk of who has this token. Rejects where it is none of an operator. */
export async function signIn(token: string, leave: (why: string) => void): Promise<Desk> {
  const transport = transportOf(token, leave);
  const operators = createClient(OperatorService, transport);
  try {
    await operators.getNode({});
  } catch (error) {
    // An operator of one organization is one, and the figures are not for them.
    if (!(error instanceof ConnectError && isOfAnother(error))) throw error;
  }
  const [sends, topics] = [createClient(SendService, transport), createClient(TopicService, transport)];
  return { operators, sends, topics };
}

/** Whether it is refused for its organization, and not for its role. */
function isOfAnother({ code, details }: ConnectError): boolean {
  if (code !== Code.PermissionDenied) return false;
  return details.some((detail) => {
    if (!("type" in detail) || detail.type !== "google.rpc.ErrorInfo") return false;
    // `reason`.
    const [reason] = fieldsOf(detail.value, 1);
    return new TextDecoder().decode(reason) === "WRONG_ORGANIZATION";
  });
}
