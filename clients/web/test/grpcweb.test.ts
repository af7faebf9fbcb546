import { create, toBinary } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { afterEach, expect, test, vi } from "vitest";
import {
  GetUnreadCountResponseSchema,
  NotificationService,
  SubscribeResponseSchema,
} from "../src/gen/doorbell/v1/notifications_pb.js";
import { grpcWeb } from "../src/grpcweb.js";
import { cureOf, Diagnosis, retryDelayOf } from "../src/problem.js";

afterEach(() => vi.unstubAllGlobals());

const client = createClient(NotificationService, grpcWeb("https://bell.test/"));

const frame = (flags: number, data: Uint8Array) => {
  const head = Uint8Array.of(flags, 0, 0, data.length >> 8, data.length & 255);
  return [...head, ...data];
};
const text = (said: string) => new TextEncoder().encode(said);
const trailer = (said = "grpc-status: 0\r\n") => frame(0x80, text(said));
const count = (unreadCount: number) =>
  frame(0, toBinary(GetUnreadCountResponseSchema, create(GetUnreadCountResponseSchema, { head: { unreadCount } })));

interface Asked {
  readonly url: string;
  readonly init: RequestInit & { headers: Headers; signal: AbortSignal; body: Uint8Array };
}

/** The service answers with these pieces. */
function answering(pieces: number[][], init: ResponseInit = {}, isOpen = false): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", async (url: string, given: Asked["init"]) => {
    asked.push({ url, init: given });
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces) controller.enqueue(Uint8Array.from(piece));
        given.signal.addEventListener("abort", () => controller.error(new DOMException("aborted", "AbortError")));
        if (!isOpen) controller.close();
      },
    });
    return new Response(body, { headers: { "content-type": "application/grpc-web+proto" }, ...init });
  });
  return asked;
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  return await call.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: unknown) => ConnectError.from(error),
  );
}

test("a call is one framed message there, and one back, however it is cut in pieces", async () => {
  const whole = [...count(300), ...trailer()];
  for (let at = 1; at < whole.length; at += 1) {
    answering([whole.slice(0, at), whole.slice(at)]);
    expect((await client.getUnreadCount({})).head?.unreadCount).toBe(300);
  }
  const asked = answering(whole.map((byte) => [byte]));
  const options = { headers: { authorization: "Bearer x" }, timeoutMs: 5000 };
  await client.markRead({ notificationIds: ["a"] }, options);
  const [{ url, init }] = asked as [Asked];
  expect(url).toBe("https://bell.test/doorbell.v1.NotificationService/MarkRead");
  expect(init.headers.get("authorization")).toBe("Bearer x");
  expect(init.headers.get("grpc-timeout")).toBe("5000m");
  expect([...init.body]).toEqual([0, 0, 0, 0, 3, 10, 1, 97]);
});

test("a stream gives its messages as they come, and ends when it is cut", async () => {
  const said = [7n, 8n].map((position) =>
    frame(0, toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { position }))),
  );
  const asked = answering(said, {}, true);
  const abort = new AbortController();
  const messages = client.subscribe({}, { signal: abort.signal })[Symbol.asyncIterator]();
  expect((await messages.next()).value.position).toBe(7n);
  expect((await messages.next()).value.position).toBe(8n);
  const next = failure(messages.next());
  abort.abort();
  expect((await next).code).toBe(Code.Canceled);
  expect(asked[0]?.init.signal.aborted).toBe(true);
  // One that ends without a word was cut off; one with a status says why.
  answering(said);
  const read = async () => {
    for await (const _ of client.subscribe({}));
  };
  expect((await failure(read())).code).toBe(Code.Unavailable);
  answering([...said, trailer()]);
  await read();
});

test("what the service says went wrong comes with its details", async () => {
  const any = (type: string, value: Uint8Array) => {
    const url = text(`type.googleapis.com/${type}`);
    return [10, url.length, ...url, 18, value.length, ...value];
  };
  const retry = toBinary(DurationSchema, create(DurationSchema, { seconds: 20n }));
  const details = [
    any("google.rpc.ErrorInfo", text("\n\u0004BUSY")),
    any("google.rpc.RetryInfo", Uint8Array.of(10, retry.length, ...retry)),
  ].flatMap((one) => [26, one.length, ...one]);
  const status = btoa(String.fromCharCode(8, 7, ...details));
  const said = `grpc-status: 7\r\ngrpc-message: not%20now\r\ngrpc-status-details-bin: ${status}\r\n`;
  const check = (error: ConnectError) => {
    expect([error.code, error.rawMessage]).toEqual([Code.PermissionDenied, "not now"]);
    expect([cureOf(error), retryDelayOf(error)]).toEqual(["none", 20_000]);
  };
  answering([trailer(said)]);
  check(await failure(client.getUnreadCount({})));
  // The same in the head, where there is no body.
  const headers = new Headers({ "content-type": "application/grpc-web+proto" });
  for (const line of said.trim().split("\r\n")) headers.set(...(line.split(": ") as [string, string]));
  answering([], { headers });
  check(await failure(client.getUnreadCount({})));
});

test("what is not the service is told by what it answers", async () => {
  const page = { headers: { "content-type": "text/html" } };
  answering([[...text("<!doctype html>")]], page);
  expect((await failure(client.getUnreadCount({}))).rawMessage).toContain("text/html");
  answering([], { status: 502 });
  const error = await failure(client.getUnreadCount({}));
  expect([error.code, error.rawMessage]).toEqual([Code.Unavailable, "HTTP 502"]);
  answering([], { status: 401 });
  expect((await failure(client.getUnreadCount({}))).code).toBe(Code.Unauthenticated);
  answering([frame(1, text("x"))]);
  expect((await failure(client.getUnreadCount({}))).code).toBe(Code.Internal);
});

test("a call that is not answered in time ends", async () => {
  const asked = answering([], {}, true);
  const error = await failure(client.getUnreadCount({}, { timeoutMs: 5 }));
  expect(error.code).toBe(Code.DeadlineExceeded);
  expect(asked[0]?.init.signal.aborted).toBe(true);
});

test("what looks alike to a page is told apart", async () => {
  const document = new EventTarget();
  vi.stubGlobal("location", { origin: "https://page.test", href: "https://page.test/" });
  const diagnosis = new Diagnosis("https://bell.test");
  diagnosis.watch(document as Document, new AbortController().signal);
  const failed = () => new ConnectError("x", Code.Unknown, undefined, undefined, new TypeError("Failed to fetch"));
  const kindOf = async () => (await diagnosis.of(failed())).kind;
  const violate = (blockedURI: string, disposition: string) => {
    document.dispatchEvent(Object.assign(new Event("securitypolicyviolation"), { blockedURI, disposition }));
  };
  const probes: RequestInit[] = [];
  let isThere = false;
  vi.stubGlobal("fetch", async (_: string, init: RequestInit) => {
    probes.push(init);
    if (!isThere) throw new TypeError("Failed to fetch");
    return new Response();
  });
  expect(await kindOf()).toBe("unreachable");
  isThere = true;
  const { kind, message } = await diagnosis.of(failed());
  expect([kind, message.includes("https://page.test"), probes[0]?.mode]).toEqual(["cors", true, "no-cors"]);
  violate("https://elsewhere.test/x", "enforce");
  violate("https://bell.test/x", "report");
  expect(await kindOf()).toBe("cors");
  violate("https://bell.test/doorbell.v1.NotificationService/GetRecent", "enforce");
  expect(await kindOf()).toBe("csp");
  const answered = async (code: Code) => (await diagnosis.of(new ConnectError("x", code))).kind;
  expect(await answered(Code.Unauthenticated)).toBe("refused");
  expect(await answered(Code.DeadlineExceeded)).toBe("unreachable");
  expect(await answered(Code.Unavailable)).toBe("service");
  // A page of the service's own origin needs no permission.
  vi.stubGlobal("location", { origin: "https://bell.test", href: "https://bell.test/" });
  expect((await new Diagnosis("/").of(failed())).kind).toBe("unreachable");
});

test("a message that a proxy did not encode is taken as it stands", async () => {
  for (const [said, message] of [
    ["the disk is 100% full", "the disk is 100% full"],
    ["100%25 of %C3%BC", "100% of ü"],
  ]) {
    answering([trailer(`grpc-status: 7\r\ngrpc-message: ${said}\r\n`)]);
    const { code, rawMessage } = await failure(client.getUnreadCount({}));
    expect([code, rawMessage]).toEqual([Code.PermissionDenied, message]);
  }
});
