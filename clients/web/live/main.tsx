// The page that `doorbell dev` serves: two users with their bells, a form that
// sends, and what their streams say.

import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { toJson } from "@bufbuild/protobuf";
import { StrictMode, useEffect, useMemo, useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import {
  NotificationService,
  SubscribeResponseSchema,
  type SubscribeResponse,
} from "../src/gen/doorbell/v1/notifications_pb.js";
import { makeInbox } from "../src/inbox.js";
import { Inbox, useInbox } from "../src/react/index.js";
import "../style.css";
import "./live.css";

/** A user of the page. */
interface Person {
  readonly name: string;
  readonly organization: string;
  readonly user: string;
  readonly token: string;
}

interface Cast {
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

function cast(): Cast | undefined {
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

const baseUrl = location.origin;

/** Hands each message of a stream to `tap` as it goes by. */
function tapping(tap: (message: SubscribeResponse) => void): Interceptor {
  return (next) => async (request) => {
    const response = await next(request);
    if (!response.stream) return response;
    async function* tapped(messages: AsyncIterable<unknown>) {
      for await (const message of messages) {
        tap(message as SubscribeResponse);
        yield message;
      }
    }
    return { ...response, message: tapped(response.message) as typeof response.message };
  };
}

const MOST_LINES = 100;

function Screen({ person }: { readonly person: Person }) {
  const [lines, setLines] = useState<readonly string[]>([]);
  const [isCut, setCut] = useState(false);
  const inbox = useMemo(() => {
    const tap = (message: SubscribeResponse) => {
      const line = JSON.stringify(toJson(SubscribeResponseSchema, message));
      setLines((before) => [line, ...before].slice(0, MOST_LINES));
    };
    const transport = createGrpcWebTransport({ baseUrl, interceptors: [tapping(tap)] });
    // Both users are in this one tab: each has a stream of its own.
    return makeInbox(
      { baseUrl, getToken: () => person.token, user: person.user, shareTabs: false },
      { transport },
    );
  }, [person]);
  const { status, unreadCount, unseenCount, revision } = useInbox(inbox);
  useEffect(() => inbox.onNotification(() => document.title = "Doorbell rings"), [inbox]);

  return (
    <section className="screen" aria-label={`${person.name}'s screen`}>
      <header>
        <div>
          <h2>{person.name}</h2>
          <p>
            of {person.organization}
          </p>
        </div>
        <Inbox inbox={inbox} />
      </header>
      <dl>
        <div>
          <dt>status</dt>
          <dd data-testid={`${person.user}-status`}>{isCut ? "cut" : status}</dd>
        </div>
        <div>
          <dt>new</dt>
          <dd>{unseenCount}</dd>
        </div>
        <div>
          <dt>unread</dt>
          <dd>{unreadCount}</dd>
        </div>
        <div>
          <dt>revision</dt>
          <dd>{revision}</dd>
        </div>
      </dl>
      <button
        type="button"
        onClick={() => {
          if (isCut) inbox.start();
          else inbox.stop();
          setCut(!isCut);
        }}
      >
        {isCut ? "Come back" : "Cut the connection"}
      </button>
      <h3 id={`${person.user}-stream`}>The stream, newest first</h3>
      <ol className="stream" tabIndex={0} aria-labelledby={`${person.user}-stream`}>
        {lines.map((line, at) => (
          <li key={lines.length - at}>
            <code>{line}</code>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Sender({ cast: { sender, people } }: { readonly cast: Cast }) {
  const client = useMemo(
    () => createClient(NotificationService, createGrpcWebTransport({ baseUrl })),
    [],
  );
  const [said, setSaid] = useState("");
  const send = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const to = people.find((person) => person.user === form.get("to"));
    if (!to) return;
    const body = String(form.get("body"));
    try {
      const { head } = await client.sendInApp(
        {
          organizationId: to.organization,
          recipientUserId: to.user,
          type: "message",
          title: String(form.get("title")),
          ...(body && { body }),
          idempotencyKey: crypto.randomUUID(),
        },
        { headers: { authorization: `Bearer ${sender}` } },
      );
      setSaid(`Sent: revision ${head?.revision}, ${head?.unreadCount} unread.`);
    } catch (error) {
      setSaid(String(error));
    }
  };
  return (
    <form className="sender" onSubmit={(event) => void send(event)}>
      <label>
        To{" "}
        <select name="to">
          {people.map((person) => (
            <option key={person.user} value={person.user}>
              {person.name} of {person.organization}
            </option>
          ))}
        </select>
      </label>
      <label>
        Title <input name="title" defaultValue="Somebody is at the door" required maxLength={500} />
      </label>
      <label>
        Body <input name="body" placeholder="optional" maxLength={2000} />
      </label>
      <button type="submit">Ring</button>
      <output>{said}</output>
    </form>
  );
}

function Page() {
  const found = useMemo(cast, []);
  if (!found) {
    return (
      <main>
        <h1>Doorbell, live</h1>
        <p>
          This page needs the tokens that <code>doorbell dev</code> prints: open the link as it
          stands there, to its end.
        </p>
      </main>
    );
  }
  return (
    <main>
      <h1>Doorbell, live</h1>
      <Sender cast={found} />
      <div className="screens">
        {found.people.map((person) => (
          <Screen key={person.user} person={person} />
        ))}
      </div>
    </main>
  );
}

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Page />
    </StrictMode>,
  );
}
