// The sender: sends with every field there is, corrects, and takes back.

import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { useMemo, useRef, useState, type FormEvent } from "react";
import { Field } from "../shared/form.js";
import { NotificationService, Suppressed } from "../src/gen/doorbell/v1/notifications_pb.js";
import type { Cast, Person } from "./cast.js";
import { Fields } from "./fields.js";

/** What was sent from here, which can be corrected and taken back. */
interface Sent {
  readonly id: string;
  readonly title: string;
  readonly to: Person;
}

/** Which notifications to take back. */
type Selection = ReturnType<Fields["selection"]> | { readonly notificationIds: string[] };

const MOST_SENT = 5;

export function Sender({ cast: { sender, people } }: { readonly cast: Cast }) {
  const client = useMemo(
    () => createClient(NotificationService, createGrpcWebTransport({ baseUrl: location.origin })),
    [],
  );
  const form = useRef<HTMLFormElement>(null);
  const [said, setSaid] = useState("");
  const [sent, setSent] = useState<readonly Sent[]>([]);
  const options = { headers: { authorization: `Bearer ${sender}` } };
  const inboxOf = ({ organization, user }: Person) => ({
    organizationId: organization,
    recipientUserId: user,
  });

  /** Does what a button is for, with what the form says now, and says how that went. */
  const act = async (what: (fields: Fields, to: Person) => Promise<string>) => {
    if (!form.current?.reportValidity()) return;
    const fields = new Fields(form.current);
    const to = people.find(({ user }) => user === fields.text("to"));
    if (!to) return;
    try {
      setSaid(await what(fields, to));
    } catch (error) {
      setSaid(String(error));
    }
  };
  const send = (event: FormEvent) => {
    event.preventDefault();
    void act(async (fields, to) => {
      const request = { ...inboxOf(to), ...fields.send() };
      const reply = await client.sendInApp(request, options);
      const { notification, duplicate, suppressed, head } = reply;
      if (suppressed === Suppressed.MUTED) return `Not sent: ${to.name} does not want this type.`;
      if (suppressed !== Suppressed.UNSPECIFIED) return "Not sent: its time was over.";
      if (duplicate) return `Sent before: revision ${head?.revision}, ${head?.unreadCount} unread.`;
      if (notification) {
        const { id, title } = notification;
        setSent((before) => [{ id, title, to }, ...before].slice(0, MOST_SENT));
      }
      return `Sent: revision ${head?.revision}, ${head?.unreadCount} unread.`;
    });
  };
  const update = ({ id, to }: Sent, ring: boolean) =>
    act(async (fields) => {
      const request = { ...inboxOf(to), notificationId: id, content: fields.content(), ring };
      const updateMask = { paths: ["*"] };
      const { changed, head } = await client.updateInApp({ ...request, updateMask }, options);
      if (!changed) return "Nothing changed.";
      const title = fields.text("title");
      setSent((before) => before.map((other) => (other.id === id ? { ...other, title } : other)));
      return `Updated: revision ${head?.revision}.`;
    });
  const retract = async (to: Person, which: Selection) => {
    const { changedCount, head } = await client.retractInApp({ ...inboxOf(to), ...which }, options);
    return `Taken back: ${changedCount}, revision ${head?.revision}.`;
  };
  const retractOne = (one: Sent) =>
    act(async () => {
      const said = await retract(one.to, { notificationIds: [one.id] });
      setSent((before) => before.filter((other) => other !== one));
      return said;
    });

  return (
    <form ref={form} className="sender" onSubmit={send}>
      <label>
        To
        <select name="to">
          {people.map(({ user, name, organization }) => (
            <option key={user} value={user}>
              {name} of {organization}
            </option>
          ))}
        </select>
      </label>
      <label>
        Title
        <input name="title" defaultValue="Somebody is at the door" required maxLength={500} />
      </label>
      <label>
        Body
        <input name="body" placeholder="optional" maxLength={2000} />
      </label>
      <button type="submit" className="primary">
        Ring
      </button>
      <details>
        <summary>Every field</summary>
        <div className="fields">
          <Field label="Type" name="type" defaultValue="message" list="types" required />
          <datalist id="types">
            <option value="message" />
            <option value="invoice" />
            <option value="comment" />
          </datalist>
          <Field label="Entity type" name="entityType" placeholder="invoice" />
          <Field label="Entity id" name="entityId" placeholder="7" />
          <Field label="Action URL" name="actionUrl" placeholder="/invoices/7" />
          <Field label="Image URL" name="imageUrl" placeholder="/faces/bob.png" />
          <Field label="Collapse key" name="collapseKey" placeholder="likes of a post" />
          <Field label="Expires in, seconds" name="expiresIn" type="number" min={0} placeholder="never" />
          <Field label="Idempotency key" name="idempotencyKey" placeholder="another one each time" />
          <label className="wide">
            Actions, one a line: label and URL
            <textarea name="actions" rows={3} placeholder={"Pay /invoices/7/pay\nLater /invoices"} />
          </label>
          <label className="wide">
            Data, as JSON
            <textarea name="data" rows={3} placeholder='{"amount": 12}' />
          </label>
          <label className="tick">
            <input name="silent" type="checkbox" /> Silent
          </label>
        </div>
        <p className="buttons">
          {[
            ["about", "Retract all about the entity"],
            ["collapseKey", "Retract by collapse key"],
            ["idempotencyKey", "Retract by idempotency key"],
          ].map(([by = "", text]) => (
            <button
              key={by}
              type="button"
              onClick={() => void act((fields, to) => retract(to, fields.selection(by)))}
            >
              {text}
            </button>
          ))}
        </p>
      </details>
      <output>{said}</output>
      {sent.length > 0 && (
        <ul role="list" className="sent" aria-label="Sent from here">
          {sent.map((one) => (
            <li key={one.id}>
              <span>
                {one.title} <small>to {one.to.name}</small>
              </span>
              <button type="button" onClick={() => void update(one, false)}>
                Update
              </button>
              <button type="button" onClick={() => void update(one, true)}>
                Update and ring
              </button>
              <button type="button" onClick={() => void retractOne(one)}>
                Retract
              </button>
            </li>
          ))}
        </ul>
      )}
    </form>
  );
}
