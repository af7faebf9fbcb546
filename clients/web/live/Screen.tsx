// What one user has before them: the bell, toasts, and what their stream says.

import { toJson } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { useEffect, useMemo, useState } from "react";
import { SubscribeResponseSchema, type SubscribeResponse } from "../src/gen/doorbell/v1/notifications_pb.js";
import { makeInbox } from "../src/inbox.js";
import { desktopNotifications, titleBadge, type Desktop } from "../src/index.js";
import { Inbox, Toasts, useInbox, type Tabs, type TypeNames } from "../src/react/index.js";
import type { Person } from "./cast.js";

const baseUrl = location.origin;
const MOST_LINES = 100;
/** Those that every inbox has, and one of a type. */
const TABS: Tabs = ["all", "unread", { id: "invoices", label: "Invoices", types: ["invoice"] }, "archived"];

/** Those that the sender proposes; others come with what was said of them. */
const TYPES: TypeNames = { message: "Messages", invoice: "Invoices", comment: "Comments" };

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

interface ScreenProps {
  readonly person: Person;
  /** Whether the title of the page has this user's number, which one of them may have. */
  readonly isInTitle: boolean;
}

export function Screen({ person, isInTitle }: ScreenProps) {
  const { user, name, organization } = person;
  const [lines, setLines] = useState<readonly string[]>([]);
  const [isCut, setCut] = useState(false);
  const [desktop, setDesktop] = useState<Desktop>();
  const [followed, setFollowed] = useState("");
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
  useEffect(() => (isInTitle ? titleBadge(inbox) : undefined), [inbox, isInTitle]);
  useEffect(() => {
    const shown = desktopNotifications(inbox, { navigate: setFollowed });
    setDesktop(shown);
    return shown.close;
  }, [inbox]);

  return (
    <section className="screen" aria-label={`${name}'s screen`}>
      <header>
        <div>
          <h2>{name}</h2>
          <p>of {organization}</p>
        </div>
        <Inbox inbox={inbox} tabs={TABS} preferences={TYPES} navigate={setFollowed} />
      </header>
      <Toasts className={`toasts-of-${user}`} inbox={inbox} navigate={setFollowed} />
      <dl>
        <div>
          <dt>status</dt>
          <dd data-testid={`${user}-status`}>{isCut ? "cut" : status}</dd>
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
      <p className="buttons">
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
        {desktop?.permission() === "default" && (
          <button type="button" onClick={() => void desktop.ask().then(() => setDesktop({ ...desktop }))}>
            Show on the desktop
          </button>
        )}
        {followed && <output>Would go to {followed}</output>}
      </p>
      <h3 id={`${user}-stream`}>The stream, newest first</h3>
      <ol role="list" className="stream" dir="ltr" tabIndex={0} aria-labelledby={`${user}-stream`}>
        {lines.map((line, at) => (
          <li key={lines.length - at}>
            <code>{line}</code>
          </li>
        ))}
      </ol>
    </section>
  );
}
