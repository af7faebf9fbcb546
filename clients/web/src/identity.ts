// Whose inbox a token opens and until when, read from its claims without verifying
// them: it only decides what is shared between tabs and kept in the browser, and when
// to ask for another token. The service decides what is served.

/** Claims as Doorbell names them unless it is told otherwise: names, or paths. */
export interface ClaimNames {
  readonly organization: string;
  readonly user: string;
}

/** Organization and user of a token; nothing where it does not say. */
export function identityOf(token: string, claims: ClaimNames): string | undefined {
  const payload = claimsOf(token);
  const organization = claimOf(payload, claims.organization);
  const user = claimOf(payload, claims.user) ?? claimOf(payload, "sub");
  return organization !== undefined && user !== undefined
    ? JSON.stringify([organization, user])
    : undefined;
}

/** A claim of this name, or where there is none at this path (`o.id`). Whole numbers are
 * read as their decimal text. */
function claimOf(payload: Record<string, unknown> | undefined, name: string): string | undefined {
  let value = payload?.[name];
  if (value === undefined) {
    value = payload;
    for (const part of name.split(".")) value = (value as typeof payload)?.[part];
  }
  return typeof value === "string" || Number.isSafeInteger(value) ? String(value) : undefined;
}

/** When a token ends, in milliseconds since 1970; 0 where it does not say. */
export function expiryOf(token: string): number {
  const expiry = claimsOf(token)?.["exp"];
  return typeof expiry === "number" ? 1000 * expiry : 0;
}

/** Whether it looks like a signed JWT. */
export function isJwt(text: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text) && claimsOf(text) !== undefined;
}

/** The claims of a JWT (RFC 7519). */
function claimsOf(token: string): Record<string, unknown> | undefined {
  try {
    const part = token.split(".")[1] ?? "";
    const binary = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null
      ? (claims as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
