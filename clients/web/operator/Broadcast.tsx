// What is said to everybody: composed, looked at, and sent once.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { useRef, useState, type FormEvent } from "react";
import { actionsOf, Field } from "../shared/form.js";
import type { ContentSchema } from "../src/gen/doorbell/v1/notifications_pb.js";
import { useAct } from "./act.js";
import { useShared } from "./context.js";
import { momentOf, Said, Sure, textOf, Tick, Url, Words } from "./parts.js";
import { whoseOf } from "./Sends.js";

type Content = MessageInitShape<typeof ContentSchema>;

/** What the form says. A field that is empty is absent. */
function contentOf(form: FormData) {
  const optional = <Key extends string>(name: Key) => {
    const text = textOf(form, name);
    return (text ? { [name]: text } : {}) as { [K in Key]?: string };
  };
  return {
    type: textOf(form, "type"),
    title: textOf(form, "title"),
    ...optional("body"),
    ...optional("entityType"),
    ...optional("entityId"),
    ...optional("actionUrl"),
    ...optional("imageUrl"),
    actions: actionsOf(textOf(form, "actions")),
  } satisfies Content;
}

export function Broadcast() {
  const { desk, organization } = useShared();
  const act = useAct();
  const form = useRef<HTMLFormElement>(null);
  // Kept until it was sent, so that a second try is no second broadcast.
  const [key, setKey] = useState<string>(() => crypto.randomUUID());
  const [draft, setDraft] = useState<ReturnType<typeof contentOf>>();
  const [isForAll, setForAll] = useState(false);

  const look = () => form.current && setDraft(contentOf(new FormData(form.current)));
  const send = () =>
    act.run(async () => {
      if (!form.current) return undefined;
      const said = new FormData(form.current);
      const [deliverTime, availableUntil, expireTime] = ["deliverTime", "availableUntil", "expireTime"].map(
        (name) => momentOf(said, name),
      );
      const { send, duplicate } = await desk.sends.broadcast({
        ...whoseOf(organization, said.has("all")),
        content: contentOf(said),
        idempotencyKey: key,
        silent: said.has("silent"),
        ...(deliverTime && { deliverTime }),
        ...(availableUntil && { availableUntil }),
        ...(expireTime && { expireTime }),
      });
      setKey(crypto.randomUUID());
      return duplicate ? `It was accepted before, as ${send?.id}.` : `Accepted as ${send?.id}.`;
    });
  const [isComplete, setComplete] = useState(false);
  const change = (event: FormEvent<HTMLFormElement>) => {
    look();
    setComplete(event.currentTarget.checkValidity());
    setForAll(new FormData(event.currentTarget).has("all"));
  };
  const whom = isForAll ? "everybody of every organization" : `everybody of ${organization}`;
  return (
    <>
      <form
        ref={form}
        className="composer card"
        aria-label="A broadcast"
        onChange={change}
        onSubmit={(event) => event.preventDefault()}
      >
        <Field label="Type" name="type" placeholder="announcement" required />
        <Field label="Title" name="title" required />
        <label className="wide">
          Text
          <textarea name="body" rows={4} />
        </label>
        <Field label="Leads to" name="actionUrl" placeholder="/news/7" />
        <Field label="Picture" name="imageUrl" placeholder="https://…" />
        <Field label="Entity type" name="entityType" />
        <Field label="Entity id" name="entityId" />
        <label className="wide">
          Actions, one a line: label and URL
          <textarea name="actions" rows={2} placeholder="Read more /news/7" />
        </label>
        <Field label="Begins (empty: now)" name="deliverTime" type="datetime-local" />
        <Field label="Can be taken until (empty: 7 days)" name="availableUntil" type="datetime-local" />
        <Field label="Expires (empty: never)" name="expireTime" type="datetime-local" />
        <div>
          <Tick label="Silent" name="silent" />
          <Tick label="To all organizations" name="all" />
        </div>
      </form>
      <section aria-labelledby="preview">
        <h2 id="preview">As people will see it</h2>
        <Preview of={draft} />
      </section>
      <div className="buttons">
        <Sure
          label="Broadcast"
          question={`This goes to ${whom}.`}
          yes="Send it"
          isDisabled={act.isBusy || !isComplete || !(isForAll || organization)}
          onSure={() => void send()}
        />
      </div>
      <Said act={act} />
    </>
  );
}

function Preview({ of }: { readonly of: ReturnType<typeof contentOf> | undefined }) {
  if (!of?.title) return <p className="empty">It has no title yet.</p>;
  return (
    <article className="preview" dir="auto">
      <strong>
        <Words>{of.title}</Words>
      </strong>
      {of.body && (
        <p>
          <Words>{of.body}</Words>
        </p>
      )}
      {of.actions.length > 0 && (
        <p className="buttons">
          {of.actions.map(({ label, isPrimary }, at) => (
            <span key={at} className={isPrimary ? "pill primary" : "pill"}>
              <Words>{label}</Words>
            </span>
          ))}
        </p>
      )}
      <small>
        {of.type && <code>{of.type}</code>}
        {of.actionUrl && (
          <>
            {" leads to "}
            <Url url={of.actionUrl} />
          </>
        )}
        {of.imageUrl && (
          <>
            {" with the picture "}
            <Url url={of.imageUrl} />
          </>
        )}
      </small>
    </article>
  );
}
