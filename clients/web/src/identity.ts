// Whose inbox a token opens and until when, read from its claims without verifying
// them: it only decides what is shared between tabs and kept in the browser, and when
// to ask for another token. The service decides what is served.

/** Claims as Doorbell names them unless it is told otherwise. */
export interface ClaimNames {
  readonly organization: string;
  readonly user: string;
}

/** Organization and user of a token; nothing where it does not say. */
export function identityOf(token: string, claims: ClaimNames): string | undefined {
  const payload = claimsOf(token);
  const organization = payload?.[claims.organization];
  const user = payload?.[claims.user] ?? payload?.["sub"];
  return typeof organization === "string" && typeof user === "string"
    ? JSON.stringify([organization, user])
    : undefined;
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
