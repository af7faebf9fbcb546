// Tokens that are made here, held against the real service.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createUserToken, type Algorithm, type Doorbell } from "../src/index.js";
import { ROOT, Service } from "./service.js";

const alice = { orgId: "acme", userId: "alice" };

const fixture = (name: string) => readFileSync(join(ROOT, "tests/fixtures/auth", name), "utf8");
const pems = {
  RS256: fixture("rsa-a.private.pem"),
  ES256: fixture("ec-a.private.pem"),
  EdDSA: fixture("ed-a.private.pem"),
};

const directory = mkdtempSync(join(tmpdir(), "doorbell-keys-"));
let service: Service;
let doorbell: Doorbell;
let secret: string;
beforeAll(async () => {
  const keys = Object.entries(pems).map(([alg, pem]) => {
    const jwk = createPublicKey(createPrivateKey(pem)).export({ format: "jwk" });
    return { ...jwk, alg, kid: alg, use: "sig" };
  });
  const jwks = join(directory, "jwks.json");
  writeFileSync(jwks, JSON.stringify({ keys }));
  service = await Service.start({ JWKS: jwks });
  doorbell = service.client();
  secret = readFileSync(service.secretFile, "utf8");
  await doorbell.sendInApp({ orgId: "acme", userId: "alice", type: "test", title: "Hello" });
});
afterAll(async () => {
  await service.stop();
  rmSync(directory, { recursive: true });
});

/** How many are unread for who has this token. */
const unread = async (token: string) => (await doorbell.getUnreadCount({}, { token })).head?.unreadCount;

test("the service takes those of each algorithm, and as the user that they name", async () => {
  const keys: [Algorithm, string][] = [["HS256", secret], ...Object.entries(pems)] as [Algorithm, string][];
  for (const [algorithm, key] of keys) {
    for (const given of [{ key }, { key, algorithm, keyId: algorithm === "HS256" ? undefined : algorithm }]) {
      const token = await createUserToken({ ...alice, ...(given as { key: string }) });
      expect(decodeProtectedHeader(token).alg).toBe(algorithm);
      expect([algorithm, await unread(token)]).toEqual([algorithm, 1]);
      const bobs = await createUserToken({ orgId: "acme", userId: "bob", key });
      expect([algorithm, await unread(bobs)]).toEqual([algorithm, 0]);
    }
  }
  // A key that node has read, or that has the older form of OpenSSL.
  const object = await createUserToken({ ...alice, key: createPrivateKey(pems.ES256) });
  expect(await unread(object)).toBe(1);
  const older = await createUserToken({ ...alice, key: fixture("rsa-a.traditional.private.pem") });
  expect(await unread(older)).toBe(1);
});

test("it says what `doorbell token` says", async () => {
  for (const [flags, options] of [
    [["--user", "alice"], { userId: "alice" }],
    [["--user", "alice", "--subject", "a@example.com"], { userId: "alice", subject: "a@example.com" }],
    [["--role", "service"], { role: "service" }],
  ] as const) {
    const theirs = await service.run("token", "--organization", "acme", ...flags, "--lifetime", "15m");
    const ours = await createUserToken({ orgId: "acme", ...options, key: secret });
    const [their, our] = [decodeJwt(theirs), decodeJwt(ours)];
    for (const claims of [their, our]) {
      expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(900);
      expect(Math.abs((claims.iat ?? 0) - Date.now() / 1_000)).toBeLessThan(60);
      delete claims.exp;
      delete claims.iat;
    }
    expect(our).toEqual(their);
  }
});

test("a backend makes its own sender's token", async () => {
  const token = () => createUserToken({ orgId: "*", role: "service", key: secret, expiresIn: "1m" });
  const sender = service.client({ token });
  const to = { orgId: "globex", userId: "bob" };
  expect((await sender.sendInApp({ ...to, type: "test", title: "Hello" })).notification?.sequence).toBe(1);
});

test("the names of claims, the issuer and the audience are as the settings have them", async () => {
  const settings = { JWT_ISSUER: "https://app.example.com", JWT_AUDIENCE: "doorbell", JWT_ORGANIZATION_CLAIM: "org" };
  const other = await Service.start(settings);
  try {
    const key = readFileSync(other.secretFile, "utf8");
    const named = { issuer: settings.JWT_ISSUER, audience: settings.JWT_AUDIENCE, claims: { organization: "org" } };
    const token = await createUserToken({ ...alice, key, ...named, expiresIn: 60_000 });
    const client = other.client({ token });
    expect((await client.getUnreadCount()).head?.unreadCount).toBe(0);
    const bare = await createUserToken({ ...alice, key });
    await expect(client.getUnreadCount({}, { token: bare })).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  } finally {
    await other.stop();
  }
});

test("one that the service would not take is not made", async () => {
  const key = secret;
  const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey;
  const small = generateKeyPairSync("rsa", { modulusLength: 1_024 }).privateKey;
  const cases: [object, string, RegExp][] = [
    [{ orgId: "acme", key }, "userId", /is required/],
    [{ orgId: "acme", userId: "", role: "service", key }, "userId", /is required/],
    [{ userId: "alice", key }, "orgId", /is required/],
    [{ ...alice, userId: "a\nb", key }, "userId", /without control characters/],
    [{ ...alice, userId: "ä".repeat(65), key }, "userId", /1 to 128 bytes/],
    [{ ...alice, orgId: "*", key }, "orgId", /no user is of `\*`/],
    [{ ...alice, key: "x".repeat(31) }, "key", /at least 32 bytes/],
    [{ ...alice, key, algorithm: "ES256" }, "algorithm", /is one for HS256, and not for ES256/],
    [{ ...alice, key: pems.RS256, algorithm: "HS256" }, "algorithm", /is one for RS256/],
    [{ ...alice, key: fixture("rsa-a.public.pem") }, "key", /cannot be read as the PEM of a private key/],
    [{ ...alice, key: createPublicKey(pems.ES256) as KeyObject }, "key", /a private key is needed/],
    [{ ...alice, key: p384 }, "key", /P-256 or Ed25519/],
    [{ ...alice, key: small }, "key", /at least 2048 bits/],
    [{ ...alice, key, expiresIn: 0 }, "expiresIn", /over at once/],
    [{ ...alice, key, expiresIn: "soon" }, "expiresIn", /text such as "10m"/],
    [{ ...alice }, "key", /or set DOORBELL_JWT_SECRET/],
  ];
  for (const [options, field, message] of cases) {
    const error = await createUserToken(options as typeof alice).then(
      () => expect.fail(field),
      (thrown: unknown) => thrown as Error,
    );
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ field }] });
    expect(error.message).toMatch(message);
    // Whatever is wrong, what signs is not said.
    expect(error.message).not.toContain(secret.trim());
  }
});
