// Sends that outlive their calls: how they are, and an end to them.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import { useRef, useState } from "react";
import { Field } from "../shared/form.js";
import { SendState, type Send } from "../src/gen/doorbell/v1/notifications_pb.js";
import type { Retraction } from "../src/gen/doorbell/v1/sends_pb.js";
import { useAct, useRepeated } from "./act.js";
import { useShared } from "./context.js";
import { Choice, Moment, Question, Said, Sure, Table, textOf, Tick, Words, type Column } from "./parts.js";

const STATES: Record<SendState, string> = {
  [SendState.UNSPECIFIED]: "In any state",
  [SendState.WAITING]: "Waiting",
  [SendState.UNDER_WAY]: "Under way",
  [SendState.DONE]: "Done",
  [SendState.CANCELLED]: "Cancelled",
};
/** What is under way is looked at this often. */
const LOOK_MS = 2000;

/** Of whom it is asked: of one organization, or of what is for all of them. */
type Whose = { readonly organizationId: string } | { readonly allOrganizations: true };

export function whoseOf(organizationId: string, isForAll: boolean): Whose {
  return isForAll ? { allOrganizations: true } : { organizationId };
}

interface Listed {
  readonly whose: Whose;
  readonly state: SendState;
  readonly rows: readonly Send[];
  readonly next: string;
}

const isBroadcast = ({ availableUntil }: Send) => availableUntil !== undefined;
const hasEnded = ({ state }: Send) => state === SendState.DONE || state === SendState.CANCELLED;

/** Whether it will change while somebody looks. A broadcast is under way for days. */
const isToFollow = (send: Send) => !isBroadcast(send) && !hasEnded(send);

/** Whether its time has come. */
function isDue({ deliverTime }: Send): boolean {
  return !deliverTime || timestampMs(deliverTime) <= Date.now();
}

export function Sends() {
  const { desk, organization } = useShared();
  const act = useAct();
  const [listed, setListed] = useState<Listed>();

  const replace = (send: Send | undefined) =>
    setListed((before) => {
      if (!before || !send) return before;
      return { ...before, rows: before.rows.map((row) => (row.id === send.id ? send : row)) };
    });
  const list = (form: FormData) =>
    act.run(async () => {
      const whose = whoseOf(organization, form.has("all"));
      const state = Number(textOf(form, "state")) as SendState;
      const { sends, nextPageToken } = await desk.sends.listSends({ ...whose, state });
      setListed({ whose, state, rows: sends, next: nextPageToken });
    });
  const more = (before: Listed) =>
    act.run(async () => {
      const { whose, state, next } = before;
      const { sends, nextPageToken } = await desk.sends.listSends({ ...whose, state, pageToken: next });
      setListed({ ...before, rows: [...before.rows, ...sends], next: nextPageToken });
    });
  const find = (form: FormData) =>
    act.run(async () => {
      const whose = whoseOf(organization, form.has("all"));
      const name = textOf(form, "name");
      const named = textOf(form, "by") === "id" ? { sendId: name } : { idempotencyKey: name };
      const { send } = await desk.sends.getSend({ ...whose, ...named });
      setListed({ whose, state: SendState.UNSPECIFIED, rows: send ? [send] : [], next: "" });
    });
  const cancel = (of: Send, whose: Whose) =>
    act.run(async () => {
      const { send } = await desk.sends.cancelSend({ ...whose, sendId: of.id });
      replace(send);
      return "Cancelled. Who had it before keeps it.";
    });
  const takeBack = (of: Send, whose: Whose) =>
    act.run(async () => {
      const { send } = await desk.sends.retractBroadcast({ ...whose, sendId: of.id });
      replace(send);
      return "Taken back: it is removed from who has it.";
    });

  const followed = listed?.rows.filter(isToFollow) ?? [];
  useRepeated(
    async () => {
      for (const { id } of followed.filter(isDue)) {
        try {
          replace((await desk.sends.getSend({ ...listed?.whose, sendId: id })).send);
        } catch {
          // It is as it was; the next look may say more.
        }
      }
    },
    LOOK_MS,
    followed.length > 0,
  );

  const columns = (whose: Whose): readonly Column<Send>[] => [
    {
      heading: "What",
      cell: ({ content, id }) => (
        <>
          <Words>{content?.title ?? ""}</Words>
          <small>
            <code>{content?.type}</code> <code>{id}</code>
          </small>
        </>
      ),
    },
    { heading: "To", cell: (send) => toOf(send, "allOrganizations" in whose) },
    { heading: "State", cell: (send) => <Progress of={send} /> },
    { heading: "Begins", cell: ({ deliverTime }) => <Moment at={deliverTime} /> },
    { heading: "Ended", cell: ({ endedAt }) => <Moment at={endedAt} /> },
    { heading: "Sender", cell: ({ sender }) => <Words>{sender}</Words> },
    {
      heading: "Do",
      cell: (send) => (
        <div className="buttons">
          {!hasEnded(send) && (
            <Sure
              label="Cancel"
              of={send.content?.title ?? send.id}
              question="Nobody gets it after that, and who has it keeps it."
              yes="Cancel it"
              onSure={() => void cancel(send, whose)}
            />
          )}
          {isBroadcast(send) && send.state !== SendState.WAITING && (
            <Sure
              label="Take back"
              of={send.content?.title ?? send.id}
              question="It is removed from everybody who has it."
              yes="Take it back"
              onSure={() => void takeBack(send, whose)}
            />
          )}
        </div>
      ),
    },
  ];
  return (
    <>
      <Question label="Sends" onAsk={(form) => void list(form)}>
        <Choice label="Which" name="state" options={Object.entries(STATES)} />
        <Tick label="To all organizations" name="all" />
        <button type="submit" className="primary">
          List
        </button>
      </Question>
      <Question label="One send" onAsk={(form) => void find(form)}>
        <Choice label="By" name="by" options={[["id", "its id"], ["key", "its idempotency key"]]} />
        <Field label="Id or key" name="name" required />
        <Tick label="To all organizations" name="all" />
        <button type="submit">Find</button>
      </Question>
      <Said act={act} />
      {listed && (
        <>
          <Table
            caption={"allOrganizations" in listed.whose ? "To all organizations" : `Of ${listed.whose.organizationId}`}
            columns={columns(listed.whose)}
            rows={listed.rows}
            keyOf={({ id }) => id}
            empty="There is no such send."
          />
          {listed.next && (
            <button type="button" disabled={act.isBusy} onClick={() => void more(listed)}>
              More
            </button>
          )}
        </>
      )}
      <TakeBack />
    </>
  );
}

function toOf(send: Send, isForAll: boolean): string {
  if (isBroadcast(send)) return isForAll ? "everybody" : "everybody of it";
  if (send.topicId) return `topic ${send.topicId}`;
  return send.totalCount === 1 ? "one person" : `${send.totalCount} people`;
}

function Progress({ of: send }: { readonly of: Send }) {
  const { state, totalCount, deliveredCount, suppressedCount, errorCount } = send;
  const parts = [`${deliveredCount} delivered`];
  if (suppressedCount > 0) parts.push(`${suppressedCount} suppressed`);
  if (errorCount > 0) parts.push(`${errorCount} failed`);
  const done = deliveredCount + suppressedCount + errorCount;
  return (
    <>
      {STATES[state]}
      {totalCount > 0 && <progress aria-label={`${done} of ${totalCount}`} value={done} max={totalCount} />}
      <small>
        {parts.join(", ")}
        {totalCount > 0 && ` of ${totalCount}`}
      </small>
    </>
  );
}

/** Takes back from everybody of an organization what is about a thing. */
function TakeBack() {
  const { desk, organization } = useShared();
  const act = useAct();
  const [about, setAbout] = useState({ entityType: "", entityId: "" });
  const [under, setUnder] = useState<{ readonly whose: string; readonly retraction: Retraction }>();

  // Of each that was not answered, so that a second try is no second one.
  const keys = useRef(new Map<string, string>());

  const begin = () =>
    act.run(async () => {
      const what = JSON.stringify([organization, about]);
      const idempotencyKey = keys.current.get(what) ?? crypto.randomUUID();
      keys.current.set(what, idempotencyKey);
      const request = { organizationId: organization, about, idempotencyKey };
      const { retraction } = await desk.sends.retractFromAll(request);
      keys.current.delete(what);
      if (retraction) setUnder({ whose: organization, retraction });
    });
  useRepeated(
    async () => {
      if (!under) return;
      const { whose, retraction: { id } } = under;
      try {
        const { retraction } = await desk.sends.getRetraction({ organizationId: whose, retractionId: id });
        if (retraction) setUnder({ whose, retraction });
      } catch {
        // It goes on all the same, and is asked for again.
      }
    },
    LOOK_MS,
    under !== undefined && !under.retraction.endedAt,
  );
  const { retraction } = under ?? {};
  return (
    <section className="card" aria-labelledby="take-back">
      <h2 id="take-back">Take back what is about a thing</h2>
      <p>From everybody of the organization, and before it comes to others. What is sent later stays.</p>
      <div className="question">
        <Field label="Entity type" value={about.entityType} onChange={({ target }) => setAbout({ ...about, entityType: target.value })} />
        <Field label="Entity id" value={about.entityId} onChange={({ target }) => setAbout({ ...about, entityId: target.value })} />
        <Sure
          label="Take back from all"
          question={`All about ${about.entityType} ${about.entityId} goes from every inbox of ${organization}.`}
          yes="Take it back"
          isDisabled={!about.entityType || !about.entityId || !organization}
          onSure={() => void begin()}
        />
      </div>
      <Said act={act} />
      {retraction && (
        <p role="status">
          {retraction.endedAt ? "Done" : "Under way"}: {retraction.retractedCount} taken back
          {retraction.errorCount > 0 && `, ${retraction.errorCount} could not be`}.
        </p>
      )}
    </section>
  );
}
