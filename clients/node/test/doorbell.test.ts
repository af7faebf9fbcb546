// Every call, against the real service.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createUserToken, Doorbell, DoorbellError } from "../src/index.js";
import { RULES } from "../src/calls.js";
import { Service, until } from "./service.js";

const acme = { orgId: "acme" };
const toAlice = { ...acme, userId: "alice" };

let service: Service;
let doorbell: Doorbell;
/** Makes a call one of Alice's. */
let alice: { token: string };
beforeAll(async () => {
  service = await Service.start();
  doorbell = service.client();
  alice = { token: service.token("ALICE") };
});
afterAll(() => service.stop());

/** What a call rejects with. */
async function failure(call: PromiseLike<unknown>): Promise<DoorbellError> {
  const thrown = await Promise.resolve(call).then(
    () => expect.fail("it should have failed"),
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(DoorbellError);
  return thrown as DoorbellError;
}

/** A user of a test's own. */
async function person(userId: string) {
  const key = (await service.run("token", "--organization", "acme", "--user", userId)).trim();
  return { to: { ...acme, userId }, as: { token: key } };
}

test("a send has all its fields, and comes back as it was sent", async () => {
  const { to, as } = await person("fields");
  const expireTime = new Date(Date.now() + 3_600_000);
  const content = {
    type: "comment",
    title: "Grüß Gott",
    body: "Looks good to me",
    entityType: "post",
    entityId: "7",
    actionUrl: "/posts/7",
    imageUrl: "https://example.com/bob.png",
    actions: [{ label: "Answer", url: "/posts/7/answer", isPrimary: true }],
    data: { likes: 3, deep: { list: [1, 2.5, null, true, { ä: "" }] } },
  };
  const sent = await doorbell.sendInApp({ ...to, ...content, expireTime, idempotencyKey: "fields-1" });
  expect(sent).toMatchObject({ duplicate: false, head: { revision: 1, unreadCount: 1, unseenCount: 1 } });
  expect(sent.suppressed).toBeUndefined();
  expect(sent.notification).toMatchObject({ ...content, expireTime, sequence: 1, revision: 1, collapsedCount: 0 });
  const { createdAt } = sent.notification ?? {};
  expect(createdAt).toBeInstanceOf(Date);
  expect(Math.abs(Number(createdAt) - Date.now())).toBeLessThan(60_000);
  expect(JSON.parse(JSON.stringify(sent))).toMatchObject({ notification: { data: content.data } });

  const again = await doorbell.sendInApp({ ...to, ...content, expireTime, idempotencyKey: "fields-1" });
  expect(again).toMatchObject({ duplicate: true, notification: { id: sent.notification?.id } });
  const page = await doorbell.getRecent({ view: "inbox" }, as);
  expect(page.notifications).toEqual([sent.notification]);
  const refused = await failure(doorbell.sendInApp({ ...to, ...content, title: "Other", idempotencyKey: "fields-1" }));
  expect(refused).toMatchObject({ code: "ALREADY_EXISTS", reason: "IDEMPOTENCY_MISMATCH" });
});

test("what is wrong is said by the names that are used here", async () => {
  const error = await failure(doorbell.sendInApp({ ...toAlice, userId: "", type: "x", title: "" }));
  expect(error).toMatchObject({
    code: "INVALID_ARGUMENT",
    reason: "INVALID_REQUEST",
    violations: [
      { field: "userId", description: "is required" },
      { field: "title", description: "is required" },
    ],
    message: "sendInApp: userId: is required; title: is required (INVALID_REQUEST)",
  });
  expect(error.isPassing).toBe(false);
  const content = { type: "x", title: "x", actionUrl: "nowhere" };
  const many = await failure(doorbell.sendToMany({ ...acme, userIds: ["a"], content }));
  expect(many.violations.map(({ field }) => field)).toEqual(["content.actionUrl"]);

  const reader = await failure(doorbell.sendInApp({ ...toAlice, type: "x", title: "x" }, alice));
  expect(reader).toMatchObject({ code: "PERMISSION_DENIED", reason: "NOT_A_SENDER", violations: [] });
  const nobody = await failure(doorbell.getUnreadCount({}, { token: "x" }));
  expect(nobody).toMatchObject({ code: "UNAUTHENTICATED", reason: "TOKEN_INVALID" });
  const nothing = await failure(doorbell.getSend({ ...acme, idempotencyKey: "nothing" }));
  expect(nothing).toMatchObject({ code: "NOT_FOUND", reason: "SEND_NOT_FOUND" });
});

test("what cannot be is refused before it is sent, where it would be lost without a word", async () => {
  const send = (more: object) => failure(doorbell.sendInApp({ ...toAlice, type: "x", title: "x", ...more }));
  const cases: [object, string, RegExp][] = [
    [{ user: "alice" }, "user", /no such field; there are: orgId, userId, type/],
    [{ recipientUserId: "alice" }, "recipientUserId", /no such field/],
    [{ data: [1] }, "data", /must be an object/],
    [{ data: { at: { ratio: Number.NaN } } }, "data", /has at "ratio" what JSON has not: NaN/],
    [{ data: { tags: new Set([1]) } }, "data", /has at "tags"/],
    [{ data: { big: 1n } }, "data", /has at "big"/],
    [{ expireTime: "tomorrow" }, "expireTime", /must be a Date/],
    [{ expireTime: new Date("never") }, "expireTime", /must be a Date/],
    [{ followUp: { after: "soon" } }, "followUp.after", /text such as "10m", and is soon/],
    [{ followUp: { after: "1s", unless: "heard" } }, "followUp.unless", /one of "seen", "read", and is "heard"/],
    [{ title: 7 }, "title", /must be a string, and is a number/],
    [{ actions: { label: "x" } }, "actions", /must be an array/],
    [{ actions: [{ name: "x" }] }, "actions[0].name", /there are: label, url, isPrimary/],
  ];
  for (const [more, field, message] of cases) {
    const error = await send(more);
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", reason: undefined, violations: [{ field }] });
    expect(error.message).toMatch(message);
  }
  // As JSON.stringify has it: what is undefined is left out, and a date is its text.
  const { to } = await person("json");
  const at = new Date();
  const sent = await doorbell.sendInApp({ ...to, type: "x", title: "x", data: { at, none: undefined } });
  expect(sent.notification?.data).toEqual({ at: at.toISOString() });
});

test("to many, each with a result, and none twice", async () => {
  const content = { type: "notice", title: "Closed on Friday", data: { day: 5 } };
  const request = { ...acme, userIds: ["m1", "m2"], content, idempotencyKey: "closed" };
  const first = await doorbell.sendToMany(request);
  expect(first).toMatchObject({ sentCount: 2, errorCount: 0 });
  const again = await doorbell.sendToMany(request);
  expect(again.sentCount).toBe(0);
  expect(again.results.map(({ duplicate }) => duplicate)).toEqual([true, true]);
  expect(again.results.map(({ notificationId }) => notificationId)).toEqual(
    first.results.map(({ notificationId }) => notificationId),
  );
});

test("corrections and retractions", async () => {
  const { to, as } = await person("corrected");
  const sent = await doorbell.sendInApp({ ...to, type: "x", title: "Tipo", body: "Text", collapseKey: "c" });
  const notificationId = sent.notification?.id ?? "";
  const update = { ...to, notificationId, content: { title: "Typo" }, updateMask: ["title", "body"], ring: true };
  const updated = await doorbell.updateInApp(update);
  expect(updated).toMatchObject({ changed: true, notification: { title: "Typo", ringRevision: 2 } });
  expect(updated.notification?.body).toBeUndefined();
  // So it can be repeated: it rings once.
  expect(await doorbell.updateInApp(update)).toMatchObject({ changed: false, head: { revision: 2 } });
  expect(await doorbell.retractInApp({ ...to, collapseKey: "c" })).toMatchObject({ changedCount: 1 });
  expect((await doorbell.getUnreadCount({}, as)).head?.unreadCount).toBe(0);

  const about = { entityType: "project", entityId: "7" };
  await doorbell.sendInApp({ ...to, type: "x", title: "x", ...about });
  const { retraction } = await doorbell.retractFromAll({ ...acme, about });
  expect(retraction).toMatchObject({ about });
  const over = await until("all is taken back", async () => {
    const found = await doorbell.getRetraction({ ...acme, retractionId: retraction?.id });
    return found.retraction?.endedAt && found.retraction;
  });
  expect(over).toMatchObject({ retractedCount: 1, errorCount: 0 });
});

test("topics: who is a member, and a send to them", async () => {
  const { as } = await person("t2");
  const topic = { ...acme, topicId: "project-7" };
  expect(await doorbell.addTopicMembers({ ...topic, userIds: ["t1", "t2", "t3"] })).toEqual({ addedCount: 3 });
  expect(await doorbell.removeTopicMembers({ ...topic, userIds: ["t3"] })).toEqual({ removedCount: 1 });
  expect(await doorbell.listTopicMembers(topic)).toEqual({ userIds: ["t1", "t2"], nextPageToken: "" });
  const members = [];
  for await (const member of doorbell.listTopicMembers({ ...topic, limit: 1 })) members.push(member);
  expect(members).toEqual(["t1", "t2"]);
  expect((await doorbell.listTopicsOfUser({ ...acme, userId: "t1" })).topicIds).toEqual(["project-7"]);

  const content = { type: "release", title: "Version 2 is out" };
  const { send } = await doorbell.sendToTopic({ ...topic, content });
  expect(send?.acceptedAt).toBeInstanceOf(Date);
  await until("all members have it", async () => {
    const now = await doorbell.getSend({ ...acme, sendId: send?.id });
    return now.send?.state === "done" && now.send.deliveredCount === 2;
  });
  expect((await doorbell.getRecent({}, as)).notifications.map(({ title }) => title)).toEqual([content.title]);
  expect(await doorbell.deleteTopic(topic)).toEqual({ removedCount: 2 });
});

test("later, listed page by page, and cancelled", async () => {
  const later = { orgId: "later", userId: "alice", type: "reminder" };
  const deliverTime = new Date(Date.now() + 3_600_000);
  const ids = [];
  for (const title of ["One", "Two", "Three"]) {
    const { send, notification } = await doorbell.sendInApp({ ...later, title, deliverTime });
    expect(notification).toBeUndefined();
    expect(send).toMatchObject({ state: "waiting", deliverTime, totalCount: 1, content: { title } });
    ids.unshift(send?.id);
  }
  const orgId = later.orgId;
  const listed = [];
  for await (const { id } of doorbell.listSends({ orgId, state: "waiting", limit: 2 })) listed.push(id);
  expect(listed).toEqual(ids);
  const page = await doorbell.listSends({ orgId, limit: 2 });
  expect(page.sends.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  const rest = await doorbell.listSends({ orgId, limit: 2, pageToken: page.nextPageToken });
  expect([rest.sends.map(({ id }) => id), rest.nextPageToken]).toEqual([ids.slice(2), ""]);

  const cancelled = await doorbell.cancelSend({ orgId, sendId: ids[0] ?? "" });
  expect(cancelled.send?.state).toBe("cancelled");
  expect((await doorbell.listSends({ orgId, state: "waiting" })).sends).toHaveLength(2);
});

test("a broadcast, and back", async () => {
  const { as } = await person("heard");
  const { send } = await doorbell.broadcast({ ...acme, content: { type: "notice", title: "Down tonight" } });
  const unread = async () => (await doorbell.getUnreadCount({}, as)).head?.unreadCount;
  await until("it is taken", async () => (await unread()) === 1);
  const { send: back } = await doorbell.retractBroadcast({ ...acme, sendId: send?.id ?? "" });
  expect(back?.state).toBe("cancelled");
  await until("it is taken back", async () => (await unread()) === 0);
});

test("what a user does, by their token", async () => {
  const { to, as } = await person("reader");
  for (const title of ["One", "Two", "Three"]) await doorbell.sendInApp({ ...to, type: "x", title });
  const titles = [];
  for await (const { title } of doorbell.getRecent({ limit: 1 }, as)) titles.push(title);
  expect(titles).toEqual(["Three", "Two", "One"]);
  const { notifications, epoch, head } = await doorbell.getRecent({}, as);
  const [newest] = notifications;
  const seen = await doorbell.markSeen({ throughSequence: newest?.sequence ?? 0, epoch }, as);
  expect(seen.head).toMatchObject({ unseenCount: 0, seenThrough: 3 });
  expect(await doorbell.markRead({ notificationIds: [newest?.id ?? ""] }, as)).toMatchObject({ changedCount: 1 });
  const through = { revision: head?.revision ?? 0, epoch };
  expect(await doorbell.archive({ through }, as)).toMatchObject({ changedCount: 2 });
  expect((await doorbell.getRecent({ view: "archived" }, as)).notifications).toHaveLength(2);
  const stale = await failure(doorbell.markRead({ through: { ...through, epoch: "x".repeat(32) } }, as));
  expect(stale).toMatchObject({ code: "FAILED_PRECONDITION", reason: "POSITION_INVALID" });
  for (const verb of ["markUnread", "unarchive", "remove"] as const) {
    const notificationIds = notifications.slice(0, 2).map(({ id }) => id);
    expect((await doorbell[verb]({ notificationIds }, as)).changedCount).toBeGreaterThan(0);
  }

  const { preferences } = await doorbell.updatePreferences({ choices: [{ type: "tips", on: false }] }, as);
  expect(preferences).toEqual([{ type: "tips", on: false, required: false, chosen: true }]);
  expect(await doorbell.getPreferences({}, as)).toEqual({ preferences });
  const muted = await doorbell.sendInApp({ ...to, type: "tips", title: "Did you know?" });
  expect([muted.suppressed, muted.notification]).toEqual(["muted", undefined]);
});

test("what an organization says of types", async () => {
  const globex = { orgId: "globex" };
  const defaults = [{ type: "security", on: true, required: true }];
  expect(await doorbell.updateTypeDefaults({ ...globex, defaults })).toEqual({ defaults });
  expect(await doorbell.getTypeDefaults(globex)).toEqual({ defaults });
});

test("operators, by theirs", async () => {
  const { to } = await person("looked-at");
  const sent = await doorbell.sendInApp({ ...to, type: "x", title: "x" });
  const token = await createUserToken({ ...acme, role: "operator", key: readFileSync(service.secretFile, "utf8") });
  const whose = { ...acme, userId: "looked-at" };
  const { page } = await doorbell.readInbox({ ...whose, query: { limit: 1, view: "all" } }, { token });
  expect(page?.notifications).toEqual([sent.notification]);
  const asked = { ...whose, notificationId: sent.notification?.id };
  const { entries } = await doorbell.getTimeline(asked, { token });
  expect(entries.map(({ event }) => event)).toEqual(["sent", "created"]);
  expect(await doorbell.eraseInbox(whose, { token })).toMatchObject({ erasedCount: 1, more: false });
  const gone = await doorbell.eraseOrganization({ orgId: "acme" }, { token });
  expect(gone.inboxCount).toBeGreaterThan(0);
});

test("there is a call for each of the proto, and one object is where they are", () => {
  expect(Object.keys(RULES)).toHaveLength(35);
  for (const name of Object.keys(RULES)) expect(doorbell).toHaveProperty(name);
});

test("where it is and who calls come from the environment, as on the command line", async () => {
  const { DOORBELL_URL, DOORBELL_TOKEN } = process.env;
  try {
    process.env["DOORBELL_URL"] = service.url;
    process.env["DOORBELL_TOKEN"] = `${alice.token}\n`;
    const own = new Doorbell();
    expect((await own.getUnreadCount()).head).toBeDefined();
    own.close();
    process.env["DOORBELL_TOKEN"] = "";
    const tokenless = await failure(new Doorbell().getUnreadCount());
    expect(tokenless).toMatchObject({ code: "UNAUTHENTICATED", reason: undefined });
    expect(tokenless.message).toMatch(/give one that may send, or set DOORBELL_TOKEN/);
    process.env["DOORBELL_URL"] = "doorbell:50051";
    expect(() => new Doorbell({ token: "x" })).toThrow(/DOORBELL_URL\) must be an http/);
  } finally {
    for (const [name, value] of Object.entries({ DOORBELL_URL, DOORBELL_TOKEN })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

