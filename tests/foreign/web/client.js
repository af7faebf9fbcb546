// A client made of connect-web, as a page would use it, or of connect-node, as a
// backend would, against a running server. Each step is asserted here; the last line
// of the output says that all were taken.
//
// Usage: node client.js URL [TRANSPORT], with tokens in SENDER and ALICE, and in
// SECRET what signs them. The transports are below; without one it is gRPC-web.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as node from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";

import { NotificationService } from "./gen/doorbell/v1/notifications_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const [, , url, name = "grpc-web"] = process.argv;
const { SENDER, ALICE, SECRET } = process.env;

const transports = {
  "grpc-web": web.createGrpcWebTransport,
  "connect-web": web.createConnectTransport,
  "connect-web binary": binary(web.createConnectTransport),
  "connect-node http/1.1": over("1.1", node.createConnectTransport),
  "connect-node http/1.1 binary": binary(over("1.1", node.createConnectTransport)),
  "connect-node http/2": over("2", node.createConnectTransport),
  "connect-node http/2 binary": binary(over("2", node.createConnectTransport)),
  "connect-node http/2 gzip": (options) =>
    over("2", node.createConnectTransport)({
      ...options,
      sendCompression: node.compressionGzip,
      compressMinBytes: 1,
    }),
};

function over(httpVersion, create) {
  return (options) => create({ httpVersion, useBinaryFormat: false, ...options });
}

function binary(create) {
  return (options) => create({ ...options, useBinaryFormat: true });
}

function client(token) {
  const authorize = (next) => (request) => {
    if (token) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const transport = transports[name]({ baseUrl: url, interceptors: [authorize] });
  return createClient(NotificationService, transport);
}

/** A token of Alice's for some seconds, made as any backend makes one. */
function aliceFor(seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const claims = { organizationId: "acme", userId: "alice", exp };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** A stream, message by message; `event` is the kind of the next one. */
function stream(messages) {
  const iterator = messages[Symbol.asyncIterator]();
  return {
    async next(event) {
      const { value, done } = await iterator.next();
      assert.ok(!done, `the stream ended instead of: ${event}`);
      assert.equal(value.event.case, event);
      return value;
    },
    end: () => iterator.next(),
  };
}

/** What a call failed with: its code, its reason, the fields it names. */
async function failure(call) {
  const error = await call.then(
    () => assert.fail("it should have failed"),
    (error) => ConnectError.from(error),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  assert.equal(info?.domain, "doorbell.v1", String(error));
  return {
    code: Code[error.code],
    reason: info.reason,
    fields: bad?.fieldViolations.map((violation) => violation.field),
  };
}

const sender = client(SENDER);
const alice = client(ALICE);
const hello = {
  organizationId: "acme",
  recipientUserId: "alice",
  type: "greeting",
  title: "Grüß Gott",
  actionUrl: "/greetings/1",
  data: { from: "bob", likes: [1, 2.5, null, true] },
};

const empty = await alice.getRecent({});
assert.deepEqual(empty.notifications, []);
assert.equal(empty.head.revision, 0n);

// A live event arrives while the stream is open.
const abort = new AbortController();
const live = stream(
  alice.subscribe(
    { afterRevision: empty.head.revision, epoch: empty.epoch },
    { signal: abort.signal },
  ),
);
const connected = await live.next("connected");
assert.equal(connected.position, 0n);
assert.equal(connected.event.value.epoch, empty.epoch);
assert.equal(connected.event.value.heartbeatInterval.seconds, 1n);
// Whatever was never changed, a replay ends by saying so.
await live.next("caughtUp");

const sent = await sender.sendInApp(hello);
assert.equal(sent.duplicate, false);
const { id } = sent.notification;
const rung = await nextButHeartbeats(live, "notification");
assert.equal(rung.event.value.id, id);
assert.equal(rung.event.value.title, hello.title);
assert.deepEqual(rung.event.value.data, hello.data);
assert.deepEqual(
  [rung.position, rung.head.revision, rung.head.unreadCount, rung.head.unseenCount, rung.ring],
  [1n, 1n, 1, 1, true],
);

const count = await alice.getUnreadCount({});
assert.deepEqual([count.head.revision, count.head.unreadCount], [1n, 1]);

const marked = await alice.markRead({ notificationIds: [id] });
assert.deepEqual([marked.changedCount, marked.head.unreadCount], [1, 0]);
const read = await nextButHeartbeats(live, "changed");
assert.deepEqual(
  read.event.value.notifications.map((row) => [row.id, row.sequence, row.revision]),
  [[id, 1n, 2n]],
);
assert.deepEqual([read.position, read.head.unreadCount, read.ring], [2n, 0, false]);

// Silence is not silent.
const heartbeat = await live.next("heartbeat");
assert.equal(heartbeat.position, 2n);

// The page closes the stream; another one resumes before the change.
abort.abort();
await assert.rejects(live.end(), (error) => ConnectError.from(error).code === Code.Canceled);
const abortResumed = new AbortController();
const resumed = stream(
  alice.subscribe(
    { afterRevision: 1n, epoch: empty.epoch },
    { signal: abortResumed.signal },
  ),
);
assert.equal((await resumed.next("connected")).position, 1n);
const row = await resumed.next("notification");
assert.equal(row.event.value.id, id);
assert.ok(row.event.value.readAt);
assert.deepEqual([row.position, row.ring], [2n, false]);
assert.equal((await resumed.next("caughtUp")).position, 2n);
abortResumed.abort();

// A position of another life of the store is a reset, after which the stream
// ends well.
const other = stream(alice.subscribe({ afterRevision: 1n, epoch: "another" }));
await other.next("connected");
assert.equal((await other.next("reset")).event.value.epoch, empty.epoch);
assert.equal((await other.end()).done, true);

const page = await alice.getRecent({ limit: 1, unreadOnly: false });
assert.deepEqual(
  page.notifications.map((notification) => notification.id),
  [id],
);
assert.deepEqual((await alice.getRecent({ unreadOnly: true })).notifications, []);

// Statuses have details that a page can read.
assert.deepEqual(await failure(sender.sendInApp({ organizationId: "acme", type: "x" })), {
  code: "InvalidArgument",
  reason: "INVALID_REQUEST",
  fields: ["recipient_user_id", "title"],
});
assert.deepEqual(await failure(alice.sendInApp(hello)), {
  code: "PermissionDenied",
  reason: "NOT_A_SENDER",
  fields: undefined,
});
assert.deepEqual(await failure(client().getUnreadCount({})), {
  code: "Unauthenticated",
  reason: "TOKEN_MISSING",
  fields: undefined,
});
assert.deepEqual(await failure(stream(client().subscribe({})).end()), {
  code: "Unauthenticated",
  reason: "TOKEN_MISSING",
  fields: undefined,
});

// A stream that was open says why it ended: the status is in its trailers.
const expiring = stream(client(aliceFor(8)).subscribe({}));
await expiring.next("connected");
const untilItEnds = async () => {
  while (!(await expiring.end()).done);
};
assert.deepEqual(await failure(untilItEnds()), {
  code: "Unauthenticated",
  reason: "TOKEN_EXPIRED",
  fields: undefined,
});

console.log("every step was taken");
// A stream that was given up keeps its connection for a while, and so the process.
setImmediate(() => process.exit());

/** The next message that is no sign of life: those come whenever it is quiet. */
async function nextButHeartbeats(stream, event) {
  for (;;) {
    const message = await stream.next(event).catch((error) => {
      if (error instanceof assert.AssertionError && error.actual === "heartbeat") return undefined;
      throw error;
    });
    if (message) return message;
  }
}
