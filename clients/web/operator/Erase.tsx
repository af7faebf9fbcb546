// Deletes for good: the key of what is meant has to be typed.

import { useState, type FormEvent, type ReactNode } from "react";
import { Field } from "../shared/form.js";
import { useAct } from "./act.js";
import { useShared } from "./context.js";
import { Said } from "./parts.js";

export function Erase() {
  const { desk, organization, user, setUser } = useShared();
  return (
    <>
      <Erasure
        title="One inbox"
        what={`All that is in the inbox of ${user || "a user"} of ${organization || "an organization"}, its archive, their choices and their topics.`}
        needed={organization && user}
        label="The user again"
        erase={async () => {
          const { erasedCount, more } = await desk.operators.eraseInbox({ organizationId: organization, userId: user });
          return said(`${erasedCount} erased.`, more);
        }}
      >
        <Field label="User" name="user" required value={user} onChange={({ target }) => setUser(target.value.trim())} />
      </Erasure>
      <Erasure
        title="A whole organization"
        what={`All inboxes, sends, topics and choices of ${organization || "an organization"}.`}
        needed={organization}
        label="The organization again"
        erase={async () => {
          const answer = await desk.operators.eraseOrganization({ organizationId: organization });
          return said(`${answer.erasedCount} erased, of ${answer.inboxCount} inboxes.`, answer.more);
        }}
      />
    </>
  );
}

function said(done: string, more: boolean): string {
  return more ? `${done} It stopped before it was through: erase once more.` : done;
}

interface ErasureProps {
  readonly title: string;
  readonly what: string;
  /** What must be typed; empty: it cannot be yet. */
  readonly needed: string;
  readonly label: string;
  readonly erase: () => Promise<string>;
  readonly children?: ReactNode;
}

function Erasure({ title, what, needed, label, erase, children }: ErasureProps) {
  const act = useAct();
  const [typed, setTyped] = useState("");
  const isSure = needed !== "" && typed === needed;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!isSure || act.isBusy) return;
    void act.run(erase).then(() => setTyped(""));
  };
  const id = title.replaceAll(" ", "-").toLowerCase();
  return (
    <section className="card" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <p>{what} Nothing of it can be brought back.</p>
      <form className="question" aria-label={title} onSubmit={submit}>
        {children}
        <Field label={label} value={typed} placeholder={needed} onChange={({ target }) => setTyped(target.value)} />
        <button type="submit" className="danger" disabled={!isSure || act.isBusy}>
          Erase
        </button>
      </form>
      <Said act={act} />
    </section>
  );
}
