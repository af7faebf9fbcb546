// Deadlines, retries, and that none of them sends twice.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { afterEach, expect, test, vi } from "vitest";
import { Doorbell, DoorbellError, type DoorbellOptions } from "../src/index.js";
import { Fake, refusal, Way } from "./fake.js";
import { Service, until } from "./service.js";

const send = { orgId: "acme", userId: "alice", type: "test", title: "Hello" };

const open: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function fake(answer: (number: number) => void | Promise<void>, options: DoorbellOptions = {}) {
  const server = await Fake.start(answer);
  const doorbell = new Doorbell({ url: server.url, token: "x", ...options });
  open.push(
    () => server.stop(),
    () => doorbell.close(),
  );
  return { server, doorbell };
}

async function failure(call: PromiseLike<unknown>): Promise<DoorbellError> {
  const thrown = await Promise.resolve(call).then(
    () => expect.fail("it should have failed"),
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(DoorbellError);
  return thrown as DoorbellError;
}

test("a service that is killed in the midst of sends has each of them once", async () => {
  const service = await Service.start();
  open.push(() => service.stop());
  const way = await Way.to(service.url);
  open.push(() => way.stop());
  const alice = { token: service.token("ALICE") };
  const doorbell = service.client({ url: way.url, timeout: "100s", retries: 1_000 });
  const direct = service.client();
  const unread = async () => (await direct.getUnreadCount({}, alice)).head?.unreadCount ?? 0;
  const titles = Array.from({ length: 400 }, (_, number) => `Send ${number}`);
  const waiting = [...titles];
  let answered = 0;
  const worker = async () => {
    for (let title = waiting.shift(); title !== undefined; title = waiting.shift()) {
      // Without a key of ours: one is made.
      const { notification } = await doorbell.sendInApp({ ...send, title });
      expect(notification?.title).toBe(title);
      answered += 1;
    }
  };
  const workers = Promise.all(Array.from({ length: 32 }, worker));
  for (const share of [50, 200]) {
    await until(`${share} are sent`, () => answered >= share);
    // The answers of these are lost: they are in the inbox, and sent again.
    way.swallowAnswers();
    await until("some are there without an answer", async () => (await unread()) >= answered + 16);
    await service.kill();
    await service.restart();
  }
  await workers;

  const inbox = [];
  for await (const { title } of doorbell.getRecent({ limit: 100 }, alice)) inbox.push(title);
  expect(inbox.sort()).toEqual(titles.sort());
});

test("a retry has the same key, made where none is given", async () => {
  const { server, doorbell } = await fake((number) => {
    if (number < 2) throw refusal(Code.Unavailable, "STORE_UNAVAILABLE");
  });
  expect(await doorbell.sendInApp(send)).toMatchObject({ notification: { id: "done" } });
  const keys = server.attempts.map(({ key }) => key);
  expect(keys).toHaveLength(3);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(new Set(keys).size).toBe(1);
  await doorbell.sendInApp(send);
  await doorbell.sendInApp({ ...send, idempotencyKey: "own" });
  expect(server.attempts[3]?.key).not.toBe(keys[0]);
  expect(server.attempts[4]?.key).toBe("own");
});

test("a full queue is asked again when it says, and not before", async () => {
  const { server, doorbell } = await fake((number) => {
    // Longer than the first waits of its own would be together.
    if (number === 0) throw refusal(Code.ResourceExhausted, "QUEUE_FULL", 1_500);
  });
  await doorbell.sendInApp(send);
  const [first, second] = server.attempts;
  // A millisecond, since timers and clocks round.
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(1_499);
});

test("what asks for more time than there is fails at once, and says for how much", async () => {
  const { server, doorbell } = await fake(() => {
    throw refusal(Code.ResourceExhausted, "QUEUE_FULL", 3_600_000);
  });
  const error = await failure(doorbell.sendInApp(send));
  expect(error).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "QUEUE_FULL", retryAfterMs: 3_600_000 });
  expect(error.isPassing).toBe(true);
  expect(server.attempts).toHaveLength(1);
});

test("retries have a number, and end with what the last one failed with", async () => {
  const { server, doorbell } = await fake(() => {
    throw refusal(Code.Unavailable, "DRAINING");
  });
  const error = await failure(doorbell.sendInApp(send, { retries: 3 }));
  expect(error).toMatchObject({ code: "UNAVAILABLE", reason: "DRAINING", message: "sendInApp: not now (DRAINING)" });
  expect(server.attempts).toHaveLength(4);
  await failure(doorbell.sendInApp(send, { retries: 0 }));
  expect(server.attempts).toHaveLength(5);
});

test("what does not pass is not repeated", async () => {
  for (const [code, reason] of [
    [Code.InvalidArgument, "INVALID_REQUEST"],
    [Code.Internal, "INTERNAL"],
    [Code.Unauthenticated, "TOKEN_EXPIRED"],
    [Code.AlreadyExists, "IDEMPOTENCY_MISMATCH"],
  ] as const) {
    const { server, doorbell } = await fake(() => {
      throw refusal(code, reason);
    });
    expect(await failure(doorbell.sendInApp(send))).toMatchObject({ reason });
    expect(server.attempts).toHaveLength(1);
  }
});

test("a correction that rings is not repeated, one that does not is", async () => {
  const { server, doorbell } = await fake(() => {
    throw refusal(Code.Unavailable, "STORE_UNAVAILABLE");
  });
  const { type: _, title, ...to } = send;
  const correction = { ...to, idempotencyKey: "own", content: { title } };
  await failure(doorbell.updateInApp({ ...correction, ring: true }));
  expect(server.attempts).toHaveLength(1);
  await failure(doorbell.updateInApp(correction, { retries: 2 }));
  expect(server.attempts).toHaveLength(4);
});

test("a call has a deadline, retries among it, and the service is told", async () => {
  const never = new Promise<void>(() => undefined);
  const { server, doorbell } = await fake(() => never, { timeout: 400 });
  const error = await failure(doorbell.sendInApp(send));
  expect(error).toMatchObject({ code: "DEADLINE_EXCEEDED", reason: undefined });
  expect(error.message).toMatch(/^sendInApp: no answer of http:\S+ within 400 ms; it may have been done$/);
  expect(server.attempts.map(({ deadline }) => deadline)).toEqual([expect.stringMatching(/^[1-4]\d\dm$/)]);

  expect(await failure(doorbell.sendInApp(send, { timeout: "1ms" }))).toMatchObject({ code: "DEADLINE_EXCEEDED" });
  const refused = await fake(
    () => {
      throw refusal(Code.Unavailable, "STORE_UNAVAILABLE");
    },
    { timeout: 2_000, retries: 1_000 },
  );
  expect(await failure(refused.doorbell.sendInApp(send))).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  expect(refused.server.attempts.length).toBeGreaterThan(1);
  const times = refused.server.attempts.map(({ at }) => at);
  expect(Math.max(...times) - Math.min(...times)).toBeLessThan(2_000);
});

test("a signal ends a call, and the wait for its retry", async () => {
  let arrived = () => undefined as void;
  const first = new Promise<void>((resolve) => (arrived = resolve));
  const { doorbell } = await fake(() => {
    arrived();
    throw refusal(Code.Unavailable, "STORE_UNAVAILABLE", 3_600_000);
  });
  const waiting = new AbortController();
  const call = doorbell.sendInApp(send, { timeout: "2h", signal: waiting.signal });
  await first;
  waiting.abort(new Error("enough"));
  expect(await failure(call)).toMatchObject({ code: "CANCELLED", cause: { message: "enough" } });
  const late = await failure(doorbell.sendInApp(send, { signal: AbortSignal.abort() }));
  expect(late).toMatchObject({ code: "CANCELLED", message: "sendInApp: was cancelled" });
});

test("the token is asked for within a call's time", async () => {
  const token = () => new Promise<string>((resolve) => setTimeout(resolve, 500, "late"));
  const { server, doorbell } = await fake(() => undefined, { token, timeout: "60s" });
  await doorbell.sendInApp(send);
  const [attempt] = server.attempts;
  expect(attempt?.deadline).toMatch(/^\d+m$/);
  // A millisecond, since timers and clocks round.
  expect(Number.parseInt(attempt?.deadline ?? "")).toBeLessThanOrEqual(59_501);
});

test("a token is asked for before each attempt", async () => {
  let made = 0;
  const token = async () => `token-${(made += 1)}`;
  const { server, doorbell } = await fake(
    (number) => {
      if (number === 0) throw refusal(Code.Unavailable, "KEYS_UNAVAILABLE");
    },
    { token },
  );
  await doorbell.sendInApp(send);
  await doorbell.sendInApp(send, { token: "own" });
  const sent = server.attempts.map(({ authorization }) => authorization);
  expect(sent).toEqual(["Bearer token-1", "Bearer token-2", "Bearer own"]);

  for (const [token, message] of [
    [() => Promise.reject(new Error("no vault")), /makes tokens failed: no vault/],
    [() => "", /makes tokens gave none/],
    [() => new Promise<string>(() => undefined), /makes tokens took too long/],
  ] as const) {
    const broken = await fake(() => undefined, { token, timeout: 200 });
    const error = await failure(broken.doorbell.sendInApp(send));
    expect(error.code).toBe("UNAUTHENTICATED");
    expect(error.message).toMatch(message);
    expect(broken.server.attempts).toEqual([]);
  }
});

test("a connection on which nothing passes any more is found by pings, and the call made on another", async () => {
  const service = await Service.start();
  open.push(() => service.stop());
  const way = await Way.to(service.url);
  open.push(() => way.stop());
  const doorbell = service.client({ url: way.url, timeout: "40s" });
  await doorbell.sendInApp(send);
  way.swallow();
  const sent = await doorbell.sendInApp(send);
  expect(sent.head).toMatchObject({ unreadCount: 2 });
  expect(way.connections).toBe(2);
});

test("a connection that ends while it is asked whether it lives is given up", async () => {
  const service = await Service.start();
  open.push(() => service.stop());
  const way = await Way.to(service.url);
  open.push(() => way.stop());
  const doorbell = service.client({ url: way.url });
  await doorbell.sendInApp(send);
  way.swallow();
  // So much later that it is asked.
  const now = Date.now;
  vi.spyOn(Date, "now").mockImplementation(() => now() + 600_000);
  open.push(() => void vi.restoreAllMocks());
  const call = doorbell.sendInApp(send, { timeout: "1s" });
  const ended = failure(call);
  await until("it is asked", () => way.swallowed > 0);
  way.end();
  expect(await ended).toMatchObject({ code: "DEADLINE_EXCEEDED" });
  expect((await doorbell.sendInApp(send)).notification?.title).toBe(send.title);
  // And so is the next one, when its time has come.
  vi.spyOn(Date, "now").mockImplementation(() => now() + 1_200_000);
  expect((await doorbell.sendInApp(send)).head?.unreadCount).toBe(3);
});

test("a client that is closed ends its calls, and makes no more", async () => {
  let arrived = () => undefined as void;
  const first = new Promise<void>((resolve) => (arrived = resolve));
  const { server, doorbell } = await fake(() => {
    arrived();
    return new Promise<void>(() => undefined);
  });
  const call = failure(doorbell.sendInApp(send));
  await first;
  doorbell.close();
  const closed = { code: "CANCELLED", message: "sendInApp: the client was closed" };
  expect(await call).toMatchObject(closed);
  expect(await failure(doorbell.sendInApp(send))).toMatchObject(closed);
  expect(server.attempts).toHaveLength(1);
});

test("over TLS, with the certificates that are given, and with no others", async () => {
  const tls = join(import.meta.dirname, "tls");
  const certificate = join(tls, "certificate.pem");
  const service = await Service.start({ TLS_CERT_FILE: certificate, TLS_KEY_FILE: join(tls, "key.pem") });
  open.push(() => service.stop());
  const url = service.url.replace("http:", "https:");
  const trusting = service.client({ url, ca: readFileSync(certificate) });
  expect((await trusting.sendInApp(send)).head?.revision).toBe(1);
  // What does not pass is not repeated: it would be over only with the test.
  const patient = { timeout: "1h", retries: 1_000_000 } as const;
  const wary = await failure(service.client({ url, ...patient }).sendInApp(send));
  expect(wary).toMatchObject({ code: "INTERNAL", reason: undefined });
  expect(wary.message).toMatch(/^sendInApp: self.signed certificate/);
  const plain = await Service.start();
  open.push(() => plain.stop());
  const wrong = plain.url.replace("http:", "https:");
  const mistaken = await failure(plain.client({ url: wrong, ...patient }).sendInApp(send));
  expect(mistaken.message).toMatch(/^sendInApp: .*(wrong version number|packet length too long|EPROTO)/i);
});

test("where nothing listens the error says where", async () => {
  const doorbell = new Doorbell({ url: "http://127.0.0.1:1", token: "x", retries: 1 });
  const error = await failure(doorbell.sendInApp(send));
  expect(error).toMatchObject({ code: "UNAVAILABLE", reason: undefined });
  expect(error.message).toMatch(/^sendInApp: connect ECONNREFUSED 127\.0\.0\.1:1$/);
});
