// gRPC-web over `fetch`, as far as Doorbell speaks it: binary, one message there, and
// one or many back. In place of `@connectrpc/connect-web`, which is a third of what a
// page would load.
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md)

import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { browserFetch, type Fetch, type FetchAnswer } from "./outside.js";

/** A frame before its data: flags, then the length. */
const HEAD_BYTES = 5;
const IS_COMPRESSED = 1;
const IS_TRAILER = 0x80;

/** A stream says nothing, or cannot. */
export class MuteError extends Error {}

/** Calls go to the service at this address. */
export function grpcWeb(baseUrl: string, fetch: Fetch = browserFetch): Transport {
  const base = baseUrl.replace(/\/+$/, "");
  /** What answers as a whole only has no streams: one that is opened never says a word. */
  let isWhole = false;
  const noted: Fetch = async (url, init) => {
    const answer = await fetch(url, init);
    // One that failed at once may be nothing but a head.
    if (answer.ok && !answer.headers.has("grpc-status")) isWhole = !answer.body;
    return answer;
  };
  return {
    async unary(method, signal, timeoutMs, header, input) {
      let message: MessageShape<typeof method.output> | undefined;
      // To its end: what went wrong stands there.
      for await (const came of call(noted, base, method, signal, timeoutMs, header, input)) message = came;
      if (!message) throw new ConnectError("the answer is empty", Code.Unavailable);
      return { stream: false, ...about(method), message };
    },
    async stream(method, signal, timeoutMs, header, input) {
      if (isWhole) {
        throw new MuteError(
          "The fetch that is used gives answers only once they are whole, so there are no streams: give the inbox another one, as its option fetch. Until then what is new is asked for.",
        );
      }
      const { value } = await input[Symbol.asyncIterator]().next();
      const message = call(noted, base, method, signal, timeoutMs, header, value);
      return { stream: true, ...about(method), message };
    },
  };
}

function about<M extends DescMethod>(method: M) {
  return { service: method.parent, method, header: new Headers(), trailer: new Headers() };
}

async function* call<I extends DescMessage, O extends DescMessage>(
  fetch: Fetch,
  base: string,
  method: DescMethod & { readonly input: I; readonly output: O },
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
  header: HeadersInit | undefined,
  input: MessageInitShape<I>,
): AsyncGenerator<MessageShape<O>> {
  const abort = new AbortController();
  const cut = () => abort.abort();
  if (signal?.aborted) cut();
  signal?.addEventListener("abort", cut);
  let isLate = false;
  const late = () => {
    isLate = true;
    cut();
  };
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
  const headers = new Headers(header);
  headers.set("content-type", "application/grpc-web+proto");
  headers.set("x-grpc-web", "1");
  if (timeoutMs !== undefined) headers.set("grpc-timeout", `${timeoutMs}m`);
  try {
    const response = await fetch(`${base}/${method.parent.typeName}/${method.name}`, {
      method: "POST",
      headers,
      body: framed(toBinary(method.input, create(method.input, input))),
      signal: abort.signal,
      redirect: "error",
    });
    for await (const [flags, data] of framesOf(response)) {
      if (flags & IS_COMPRESSED) throw new ConnectError("the answer is compressed", Code.Internal);
      if (flags & IS_TRAILER) return check(trailersOf(data));
      yield fromBinary(method.output, data);
    }
    throw new ConnectError("the answer was cut off", Code.Unavailable);
  } catch (error) {
    if (isLate) throw new ConnectError("no answer before the deadline", Code.DeadlineExceeded);
    throw ConnectError.from(error, signal?.aborted ? Code.Canceled : Code.Unavailable);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cut);
    // Who reads no further needs no more of it.
    cut();
  }
}

function framed(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(HEAD_BYTES + data.length);
  new DataView(frame.buffer).setUint32(1, data.length);
  frame.set(data, HEAD_BYTES);
  return frame;
}

/** The frames of an answer. One that failed at once has none, and says so in its head. */
async function* framesOf(response: FetchAnswer): AsyncGenerator<[number, Uint8Array]> {
  const { status, headers } = response;
  if (!response.ok) {
    const code = status === 401 ? Code.Unauthenticated : Code.Unavailable;
    throw new ConnectError(headers.get("grpc-message") ?? `HTTP ${status}`, code);
  }
  if (headers.has("grpc-status")) check(headers);
  const type = headers.get("content-type") ?? "";
  if (!type.startsWith("application/grpc-web")) {
    throw new ConnectError(`an answer that is no gRPC-web, but ${type || "of no type"}`, Code.Unavailable);
  }
  let held = new Uint8Array();
  for await (const piece of piecesOf(response)) {
    const both = new Uint8Array(held.length + piece.length);
    both.set(held);
    both.set(piece, held.length);
    held = both;
    while (held.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held.length < end) break;
      yield [held[0] ?? 0, held.subarray(HEAD_BYTES, end)];
      held = held.subarray(end);
    }
  }
}

/** What comes, piece by piece; as one where a `fetch` has no streams. */
async function* piecesOf(response: FetchAnswer): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) {
    yield new Uint8Array(await response.arrayBuffer());
    return;
  }
  for (;;) {
    const { done, value } = await reader.read();
    if (done || !value) return;
    yield value;
  }
}

function trailersOf(data: Uint8Array): Headers {
  const trailers = new Headers();
  for (const line of new TextDecoder().decode(data).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) trailers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return trailers;
}

/** Throws what the service says went wrong. */
function check(status: FetchAnswer["headers"]): void {
  const code = Number(status.get("grpc-status") ?? Code.Unknown);
  if (code === 0) return;
  const error = new ConnectError(decoded(status.get("grpc-message") ?? ""), code);
  const details = status.get("grpc-status-details-bin");
  if (details !== null) error.details = detailsOf(Uint8Array.from(atob(details), (c) => c.charCodeAt(0)));
  throw error;
}

/** A message as it was before it was percent-encoded; as it stands where a proxy did not. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

/** The third field of a `google.rpc.Status`: a `google.protobuf.Any` each. */
function detailsOf(status: Uint8Array): ConnectError["details"] {
  return fieldsOf(status, 3).map((any) => {
    const [url = new Uint8Array()] = fieldsOf(any, 1);
    const [value = new Uint8Array()] = fieldsOf(any, 2);
    return { type: new TextDecoder().decode(url).split("/").pop() ?? "", value };
  });
}

/** The values of a field that has a length, each as it stands. */
export function fieldsOf(message: Uint8Array, number: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === number) found.push(reader.bytes());
    else reader.skip(type, field);
  }
  return found;
}
