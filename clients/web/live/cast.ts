// Who is on the page: two users, and who sends to them.

/** A user of the page. */
export interface Person {
  readonly name: string;
  readonly organization: string;
  readonly user: string;
  readonly token: string;
}

export interface Cast {
  readonly sender: string;
  readonly people: readonly Person[];
}

const KEPT = "doorbell-live";

/**
 * Tokens come in the fragment, which no server sees. They leave the address bar at once,
 * so that no history, bookmark or copied link has them, and outlive a reload of this tab.
 */
function tokens(): URLSearchParams {
  if (location.hash.length > 1) {
    sessionStorage.setItem(KEPT, location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return new URLSearchParams(sessionStorage.getItem(KEPT) ?? "");
}

/** Nothing where the page was opened without its tokens. */
export function cast(): Cast | undefined {
  const fragment = tokens();
  const sender = fragment.get("sender");
  const people = ["alice", "bob"].flatMap((user) => {
    const token = fragment.get(user);
    const organization = fragment.get(`${user}-organization`);
    const name = user.charAt(0).toUpperCase() + user.slice(1);
    return token && organization ? [{ name, organization, user, token }] : [];
  });
  return sender && people.length === 2 ? { sender, people } : undefined;
}
