// Who must be told otherwise: each at least once, whatever stops meanwhile.

import { afterAll, beforeAll, expect, test } from "vitest";
import { DoorbellError, type Doorbell, type FollowUp } from "../src/index.js";
import { Service, until } from "./service.js";

let service: Service;
let doorbell: Doorbell;
beforeAll(async () => {
  service = await Service.start();
  doorbell = service.client();
});
afterAll(() => service.stop());

const to = (orgId: string, userId: string) => ({ orgId, userId });
const order = { type: "order", title: "An order", followUp: { after: "1s" } } as const;

/** The next of them. */
async function next(followUps: AsyncGenerator<FollowUp, void>): Promise<FollowUp> {
  const { value, done } = await followUps.next();
  if (done) throw new Error("it ended");
  return value;
}

test("each has what was sent, and who reads in time is not told of", async () => {
  const user = await service.run("token", "--organization", "f1", "--user", "reader");
  const { notification } = await doorbell.sendInApp({ ...to("f1", "reader"), ...order, followUp: { after: "2s" } });
  await doorbell.markRead({ notificationIds: [notification?.id ?? ""] }, { token: user });
  await doorbell.sendInApp({ ...to("f1", "ann"), ...order, followUp: { after: 1_000, unless: "seen" } });
  const followUps = doorbell.followUps({ orgId: "f1" });
  const first = await next(followUps);
  expect(first).toMatchObject({ userId: "ann", unless: "seen", notification: { title: "An order" } });
  expect(first.dueTime).toBeInstanceOf(Date);
  expect(first.position).toMatch(/^1 [0-9a-f]+$/);
  // It waits for the next one, and the one that was read is none.
  const second = next(followUps);
  await doorbell.sendInApp({ ...to("f1", "bob"), ...order });
  expect(await second).toMatchObject({ userId: "bob", unless: "read", notification: { title: "An order" } });
  await followUps.return();
});

test("they go on after a kill, from the position that was stored", async () => {
  const users = ["ann", "bob", "cat", "dan"];
  const failures: DoorbellError[] = [];
  const onError = (error: DoorbellError) => void failures.push(error);
  const followUps = doorbell.followUps({ orgId: "f2", onError });
  const told = [];
  for (const user of users.slice(0, 2)) {
    await doorbell.sendInApp({ ...to("f2", user), ...order });
    told.push(await next(followUps));
  }
  // The service dies while it is asked for the third, and is away for a while.
  const third = next(followUps);
  await service.kill();
  await until("it is asked in vain", () => failures.length >= 3);
  expect(new Set(failures.map(({ code }) => code))).toEqual(new Set(["UNAVAILABLE"]));
  await service.restart();
  await doorbell.sendInApp({ ...to("f2", "cat"), ...order });
  told.push(await third);
  await followUps.return();
  expect(told.map(({ userId }) => userId)).toEqual(users.slice(0, 3));

  // Another worker, which knows the position of the second alone, is told of the third again.
  await doorbell.sendInApp({ ...to("f2", "dan"), ...order });
  const again = doorbell.followUps({ orgId: "f2", after: told[1]?.position });
  expect([(await next(again)).userId, (await next(again)).userId]).toEqual(users.slice(2));
  await again.return();
  // One that does not wait ends where there are no more.
  const rest = [];
  for await (const { userId } of doorbell.followUps({ orgId: "f2", after: told[0]?.position, follow: false })) {
    rest.push(userId);
  }
  expect(rest).toEqual(users.slice(1));
});

test("in another life of the database all that is kept is told anew", async () => {
  await doorbell.sendInApp({ ...to("f3", "ann"), ...order });
  const before = doorbell.followUps({ orgId: "f3" });
  const { position } = await next(before);
  await before.return();
  await service.kill();
  await service.run("migrate", "--new-epoch");
  await service.restart();
  const after = doorbell.followUps({ orgId: "f3", after: position });
  const told = await next(after);
  expect(told.userId).toBe("ann");
  expect(told.position).not.toBe(position);
  await after.return();
});

test("a signal ends them, and what does not pass is thrown", async () => {
  const stop = new AbortController();
  const { signal } = stop;
  const all = (async () => {
    const told = [];
    for await (const followUp of doorbell.followUps({ orgId: "f4", signal })) told.push(followUp);
    return told;
  })();
  await doorbell.sendInApp({ ...to("f4", "ann"), ...order, followUp: { after: "1h" } });
  stop.abort();
  expect(await all).toEqual([]);

  const refused = service.client({ token: service.token("ALICE") }).followUps({ orgId: "acme" });
  await expect(refused.next()).rejects.toMatchObject({ code: "PERMISSION_DENIED", reason: "NOT_A_SENDER" });
  const unknown = doorbell.followUps({ orgId: "f4", after: "7" });
  await expect(unknown.next()).rejects.toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ field: "after" }] });
});
