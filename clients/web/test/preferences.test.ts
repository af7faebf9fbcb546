import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { open, pass, service } from "./page.js";
import { refusal } from "./service.js";
import { token } from "./tabs.js";

const away = () => new ConnectError("away", Code.Unavailable);
const wanted = (type: string, on: boolean) => ({ type, on, required: false, chosen: true });
const asked = () => service.calls.filter((call) => call.endsWith("Preferences"));

test("a person says of types what they want, and nothing else changes", async () => {
  service.send("1");
  service.typeDefaults.set("digest", { on: false, required: false });
  service.typeDefaults.set("security", { on: true, required: true });
  const inbox = open();
  await pass(100);
  const before = inbox.getSnapshot();
  const { preferences, updatePreferences } = inbox;
  const digest = { type: "digest", on: false, required: false, chosen: false };
  const security = { type: "security", on: true, required: true, chosen: false };
  expect(await preferences()).toEqual([digest, security]);
  const choices = [{ type: "tips", on: false }, { type: "digest", on: true }];
  expect(await updatePreferences(choices)).toEqual([wanted("digest", true), security, wanted("tips", false)]);
  // What is not said goes back to what the organization says.
  const back = [{ type: "digest" }, { type: "tips", on: undefined }];
  expect(await updatePreferences(back)).toEqual([digest, security]);
  await pass(100);
  expect(inbox.getSnapshot()).toBe(before);
  expect(JSON.parse(JSON.stringify(await preferences()))).toEqual([digest, security]);
});

test("what is refused or not taken rejects, and is not held", async () => {
  service.typeDefaults.set("security", { on: true, required: true });
  const inbox = open();
  await pass(100);
  const off = [{ type: "security", on: false }];
  await expect(inbox.updatePreferences(off)).rejects.toMatchObject({ code: Code.InvalidArgument });
  service.failure = away();
  await expect(inbox.preferences()).rejects.toMatchObject({ code: Code.Unavailable });
  const tips = [{ type: "tips", on: false }];
  await expect(inbox.updatePreferences(tips)).rejects.toMatchObject({ code: Code.Unavailable });
  service.failure = undefined;
  inbox.retry();
  await pass(1000);
  expect(service.chosen.size).toBe(0);
  expect(inbox.getSnapshot().pendingMarks).toBe(0);
});

test("a token that is refused is replaced once, and before there is any it is waited for", async () => {
  const hour = Date.now() + 3_600_000;
  service.accepted = token("ann", 2 * hour);
  const inbox = open({ getToken: async (fresh) => token("ann", fresh ? 2 * hour : hour) });
  // It is not yet known whose they are.
  expect(await inbox.updatePreferences([{ type: "tips", on: false }])).toEqual([wanted("tips", false)]);
  expect(asked()).toEqual(["updatePreferences", "updatePreferences"]);
  service.accepted = "no token at all";
  await expect(inbox.preferences()).rejects.toMatchObject({ code: Code.Unauthenticated });
});

test("nobody gets what was asked for another user", async () => {
  let user = "ann";
  const inbox = open({ getToken: () => token(user), user: "ann" });
  await pass(100);
  service.chosen.set("tips", false);
  const asking = inbox.preferences();
  while (asked().length === 0) await Promise.resolve();
  user = "bob";
  inbox.start({ user: "bob" });
  await expect(asking).rejects.toMatchObject({ code: Code.Canceled });
  await pass(100);
  expect(await inbox.preferences()).toEqual([wanted("tips", false)]);
  // And where the token says it, not the page.
  const other = open({ getToken: () => token(user) });
  await pass(100);
  user = "ann";
  other.stop();
  await expect(other.preferences()).rejects.toMatchObject({ code: Code.Canceled });
  expect(asked().length).toBe(2);
});

test("it is answered before the inbox has begun, and without a word from it", async () => {
  const inbox = open();
  inbox.stop();
  service.failure = refusal(Code.PermissionDenied);
  await expect(inbox.preferences()).rejects.toMatchObject({ code: Code.PermissionDenied });
  service.failure = undefined;
  expect(await inbox.preferences()).toEqual([]);
});
