// Tokens for users: what a page asks its own backend for.

import { createPrivateKey, KeyObject } from "node:crypto";
import { invalid } from "./error.js";
import { milliseconds, type Span } from "./span.js";

/** How a token is signed. */
export type Algorithm = "HS256" | "RS256" | "ES256" | "EdDSA";

/** Whose token, and what signs it. */
export interface UserTokenOptions {
  /** The tenant. */
  readonly orgId: string;
  /** The person, as your session says it; never as a request does. */
  readonly userId?: string | undefined;
  /** What signs: the secret of the service, as text (HS256), or a private key, as PEM or as a
   * `KeyObject` (RSA, P-256 or Ed25519). Else the secret that `DOORBELL_JWT_SECRET` holds. */
  readonly key?: string | KeyObject | undefined;
  /** The one of the key where it is absent; another is refused. */
  readonly algorithm?: Algorithm | undefined;
  /** How long it is good for: 15 minutes, which a page renews by itself. In whole seconds. */
  readonly expiresIn?: Span | undefined;
  /** The id of the key in the JWKS (`kid`). */
  readonly keyId?: string | undefined;
  /** Who it is made for (`sub`), where that is not the user. */
  readonly subject?: string | undefined;
  /** `iss`, where the service has `DOORBELL_JWT_ISSUER`. */
  readonly issuer?: string | undefined;
  /** `aud`, where the service has `DOORBELL_JWT_AUDIENCE`. */
  readonly audience?: string | undefined;
  /** For a backend in place of a user: `service` may send. Only then `userId` may be absent,
   * and `orgId` be `*`. */
  readonly role?: string | undefined;
  /** What the claims are called, where the service has settings for it. */
  readonly claims?: { readonly organization?: string; readonly user?: string; readonly role?: string };
}

/** Makes a token, for a page or a phone to call the service with as this user. Rejects with
 * `INVALID_ARGUMENT` where the service would not accept it. */
export async function createUserToken(options: UserTokenOptions): Promise<string> {
  const { orgId, userId, role, subject = userId, keyId, issuer, audience } = options;
  checkId("orgId", orgId);
  if (userId !== undefined || role === undefined) checkId("userId", userId);
  if (orgId === "*" && role === undefined) throw invalid("orgId", "no user is of `*`");
  const { algorithm, key } = signing(options.key ?? process.env["DOORBELL_JWT_SECRET"]);
  if (options.algorithm !== undefined && options.algorithm !== algorithm) {
    throw invalid("algorithm", `the key is one for ${algorithm}, and not for ${options.algorithm}`);
  }
  const seconds = Math.ceil(milliseconds("expiresIn", options.expiresIn ?? "15m") / 1_000);
  if (seconds === 0) throw invalid("expiresIn", "it would be over at once");
  const now = Math.floor(Date.now() / 1_000);
  const names = { organization: "organizationId", user: "userId", role: "userRole", ...options.claims };
  const claims = {
    [names.organization]: orgId,
    ...(userId !== undefined && { [names.user]: userId }),
    ...(role !== undefined && { [names.role]: role }),
    ...(subject !== undefined && { sub: subject }),
    ...(issuer !== undefined && { iss: issuer }),
    ...(audience !== undefined && { aud: audience }),
    iat: now,
    exp: now + seconds,
  };
  // It has ES modules alone, and CommonJS comes to them only so.
  const { SignJWT } = await import("jose");
  const header = { alg: algorithm, typ: "JWT", ...(keyId !== undefined && { kid: keyId }) };
  return await new SignJWT(claims).setProtectedHeader(header).sign(key);
}

function checkId(field: string, id: unknown): void {
  const bytes = typeof id === "string" ? Buffer.byteLength(id) : 0;
  const isWell = bytes > 0 && bytes <= 128 && !/\p{Cc}/u.test(id as string);
  if (!isWell) throw invalid(field, "is required: text of 1 to 128 bytes, without control characters");
}

/** What signs, and how. */
function signing(key: string | KeyObject | undefined): { algorithm: Algorithm; key: KeyObject | Uint8Array } {
  if (!key) throw invalid("key", "give the secret or the private key, or set DOORBELL_JWT_SECRET");
  if (typeof key !== "string") return { algorithm: algorithmOf(key), key };
  if (key.includes("-----BEGIN ")) {
    const parsed = privateKey(key);
    return { algorithm: algorithmOf(parsed), key: parsed };
  }
  // A file of the secret ends with a line end, which does not count; the service refuses others.
  const bytes = Buffer.from(key.replace(/\r?\n$/, ""));
  if (bytes.length < 32) throw invalid("key", "the secret must have at least 32 bytes");
  return { algorithm: "HS256", key: bytes };
}

function privateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw invalid("key", "cannot be read as the PEM of a private key", cause);
  }
}

function algorithmOf(key: KeyObject): Algorithm {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = key;
  if (key.type === "private") {
    if (type === "rsa" && (details.modulusLength ?? 0) >= 2_048) return "RS256";
    if (type === "ec" && details.namedCurve === "prime256v1") return "ES256";
    if (type === "ed25519") return "EdDSA";
  }
  throw invalid("key", "cannot sign: a private key is needed, RSA of at least 2048 bits, P-256 or Ed25519");
}
