// Yours: who is signed in, as your session says it; never as the request does.

export interface User {
  orgId: string;
  userId: string;
}

const sessions = new Map<string, User>([["session-of-alice", { orgId: "acme", userId: "alice" }]]);

/** Who has the session that is in this `cookie` header. */
export function signedIn(cookie: string | null | undefined): User | undefined {
  const [, session = ""] = /(?:^|; )session=([^;]+)/.exec(cookie ?? "") ?? [];
  return sessions.get(session);
}
