// Somebody's inbox, and what became of one notification.

import { useState, type ReactNode } from "react";
import { Field } from "../shared/form.js";
import { RemovalCause, View, type Head, type Notification } from "../src/gen/doorbell/v1/notifications_pb.js";
import { TimelineEvent, type GetTimelineResponse } from "../src/gen/doorbell/v1/operators_pb.js";
import { useAct } from "./act.js";
import { useShared } from "./context.js";
import { Choice, Moment, Question, Said, Table, textOf, Tick, Url, Words, type Column } from "./parts.js";

const VIEWS = [
  [View.ALL, "In the inbox and archived"],
  [View.INBOX, "In the inbox"],
  [View.ARCHIVED, "Archived"],
] as const;

const EVENTS: Record<TimelineEvent, string> = {
  [TimelineEvent.UNSPECIFIED]: "Something this page does not know",
  [TimelineEvent.SENT]: "Taken from its sender",
  [TimelineEvent.CREATED]: "Came into the inbox",
  [TimelineEvent.READ]: "Marked as read",
  [TimelineEvent.ARCHIVED]: "Archived",
  [TimelineEvent.REMOVED]: "Removed",
  [TimelineEvent.FOLLOWED_UP]: "Told to backends: nobody looked",
};

const CAUSES: Record<RemovalCause, string> = {
  [RemovalCause.UNSPECIFIED]: "",
  [RemovalCause.USER]: " by its person",
  [RemovalCause.SENDER]: " by its sender",
  [RemovalCause.EXPIRED]: ": its time was over",
  [RemovalCause.REPLACED]: ": a later one took its place",
};

/** How it is, in words. */
export function stateOf({ removedAt, archivedAt, readAt }: Notification): string {
  if (removedAt) return "removed";
  if (archivedAt) return readAt ? "archived, read" : "archived";
  return readAt ? "read" : "unread";
}

/** What somebody asked for, and as much as came of it. */
interface Listed {
  readonly query: { readonly view: View; readonly unreadOnly: boolean; readonly types: string[] };
  readonly whose: { readonly organizationId: string; readonly userId: string };
  readonly rows: readonly Notification[];
  readonly next: string;
  readonly head: Head | undefined;
}

export function Inboxes() {
  const { desk, organization, user, setUser } = useShared();
  const act = useAct();
  const [listed, setListed] = useState<Listed>();
  const [timeline, setTimeline] = useState<GetTimelineResponse>();

  const list = (form: FormData) =>
    act.run(async () => {
      const type = textOf(form, "type");
      const query = {
        view: Number(textOf(form, "view")) as View,
        unreadOnly: form.has("unread"),
        types: type ? [type] : [],
      };
      const whose = { organizationId: organization, userId: user };
      const { page } = await desk.operators.readInbox({ ...whose, query });
      setTimeline(undefined);
      setListed({ query, whose, rows: page?.notifications ?? [], next: page?.nextPageToken ?? "", head: page?.head });
    });
  const more = (before: Listed) =>
    act.run(async () => {
      const query = { ...before.query, pageToken: before.next };
      const { page } = await desk.operators.readInbox({ ...before.whose, query });
      const rows = [...before.rows, ...(page?.notifications ?? [])];
      setListed({ ...before, rows, next: page?.nextPageToken ?? "", head: page?.head });
    });
  const show = (of: { notificationId: string } | { idempotencyKey: string }, whose = { organizationId: organization, userId: user }) =>
    act.run(async () => setTimeline(await desk.operators.getTimeline({ ...whose, ...of })));
  const find = (form: FormData) => {
    const name = textOf(form, "name");
    const isId = textOf(form, "by") === "id";
    void show(isId ? { notificationId: name } : { idempotencyKey: name });
  };

  const columns: readonly Column<Notification>[] = [
    {
      heading: "Title",
      cell: ({ id, title }) => (
        <button type="button" className="link" onClick={() => void show({ notificationId: id }, listed?.whose)}>
          <Words>{title}</Words>
        </button>
      ),
    },
    { heading: "Type", cell: ({ type }) => <code>{type}</code> },
    { heading: "Came", cell: ({ createdAt }) => <Moment at={createdAt} /> },
    { heading: "State", cell: stateOf },
  ];
  const userField = (
    <Field label="User" name="user" required value={user} onChange={({ target }) => setUser(target.value.trim())} />
  );
  return (
    <>
      <Question label="An inbox" onAsk={(form) => void list(form)}>
        {userField}
        <Choice label="Which" name="view" options={VIEWS} />
        <Field label="Type" name="type" placeholder="any" />
        <Tick label="Unread only" name="unread" />
        <button type="submit" className="primary">
          Look
        </button>
      </Question>
      <Question label="One notification" onAsk={find}>
        {userField}
        <Choice label="By" name="by" options={[["id", "its id"], ["key", "its idempotency key"]]} />
        <Field label="Id or key" name="name" required />
        <button type="submit">Find</button>
      </Question>
      <Said act={act} />
      {timeline && <Timeline of={timeline} onClose={() => setTimeline(undefined)} />}
      {listed && (
        <>
          <p className="summary">
            {listed.head?.unreadCount} unread, {listed.head?.unseenCount} unseen, revision {String(listed.head?.revision ?? 0)}
          </p>
          <Table
            caption={`The inbox of ${listed.whose.userId} of ${listed.whose.organizationId}`}
            columns={columns}
            rows={listed.rows}
            keyOf={({ id }) => id}
            empty="There is nothing of this."
          />
          {listed.next && (
            <button type="button" disabled={act.isBusy} onClick={() => void more(listed)}>
              More
            </button>
          )}
        </>
      )}
    </>
  );
}

function Timeline({ of, onClose }: { readonly of: GetTimelineResponse; readonly onClose: () => void }) {
  const { notification, entries, seen, sender } = of;
  if (!notification) return null;
  const { id, type, title, body, entityType, entityId, actionUrl, imageUrl, data, actions } = notification;
  const facts: readonly (readonly [string, ReactNode])[] = [
    ["Id", <code>{id}</code>],
    ["State", stateOf(notification)],
    ["Seen", seen ? "its person has looked since it came" : "its person has not looked since it came"],
    ["Sender", <Words>{sender}</Words>],
    ["Type", type && <code>{type}</code>],
    ["Text", body && <Words>{body}</Words>],
    ["About", entityType && <code>{`${entityType} ${entityId ?? ""}`}</code>],
    ["Leads to", actionUrl && <Url url={actionUrl} />],
    ["Picture", imageUrl && <Url url={imageUrl} />],
    ["Expires", notification.expireTime && <Moment at={notification.expireTime} />],
    ["Collapsed", notification.collapsedCount > 0 && `${notification.collapsedCount} before it`],
    ["Data", data && <code>{JSON.stringify(data)}</code>],
  ];
  return (
    <section className="card" aria-labelledby="timeline">
      <header>
        <h2 id="timeline">{title ? <Words>{title}</Words> : "What is left of a removed notification"}</h2>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </header>
      <ol className="timeline" aria-label="Timeline">
        {entries.map(({ event, time, cause }, at) => (
          <li key={at}>
            <Moment at={time} />{" "}
            <span>
              {EVENTS[event] ?? EVENTS[TimelineEvent.UNSPECIFIED]}
              {CAUSES[cause]}
            </span>
          </li>
        ))}
      </ol>
      <dl>
        {facts.map(([name, value]) => value && <Fact key={name} name={name}>{value}</Fact>)}
        {actions.map(({ label, url }, at) => (
          <Fact key={at} name={`Action ${at + 1}`}>
            <Words>{label}</Words> <Url url={url} />
          </Fact>
        ))}
      </dl>
    </section>
  );
}

function Fact({ name, children }: { readonly name: string; readonly children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
