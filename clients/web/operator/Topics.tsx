// Who is a member of what.

import { useState } from "react";
import { Field } from "../shared/form.js";
import { useAct } from "./act.js";
import { useShared } from "./context.js";
import { Question, Said, Sure, Table, textOf, Words } from "./parts.js";

/** A list of one of the two kinds, as much of it as was asked for. */
interface Listed {
  readonly organizationId: string;
  readonly of: { readonly topicId: string } | { readonly userId: string };
  readonly ids: readonly string[];
  readonly next: string;
}

export function Topics() {
  const { desk, organization, user, setUser } = useShared();
  const act = useAct();
  const [listed, setListed] = useState<Listed>();

  const load = (organizationId: string, of: Listed["of"], before?: Listed) =>
    act.run(async () => {
      const page = { organizationId, pageToken: before?.next ?? "" };
      if ("topicId" in of) {
        const { userIds, nextPageToken } = await desk.topics.listTopicMembers({ ...page, ...of });
        setListed({ organizationId, of, ids: [...(before?.ids ?? []), ...userIds], next: nextPageToken });
      } else {
        const { topicIds, nextPageToken } = await desk.topics.listTopicsOfUser({ ...page, ...of });
        setListed({ organizationId, of, ids: [...(before?.ids ?? []), ...topicIds], next: nextPageToken });
      }
    });
  const remove = ({ organizationId, of }: Listed, id: string) =>
    act.run(async () => {
      const [topicId, userId] = "topicId" in of ? [of.topicId, id] : [id, of.userId];
      const request = { organizationId, topicId, userIds: [userId] };
      const { removedCount } = await desk.topics.removeTopicMembers(request);
      setListed((now) => now && { ...now, ids: now.ids.filter((other) => other !== id) });
      return removedCount > 0 ? `${userId} is no member of ${topicId} any more.` : `${userId} was none before.`;
    });
  const end = (organizationId: string, topicId: string) =>
    act.run(async () => {
      const { removedCount } = await desk.topics.deleteTopic({ organizationId, topicId });
      setListed(undefined);
      return `${topicId} is gone, with ${removedCount} members.`;
    });

  const topic = listed && "topicId" in listed.of ? listed.of.topicId : undefined;
  const person = listed && "userId" in listed.of ? listed.of.userId : undefined;
  return (
    <>
      <Question label="A topic" onAsk={(form) => void load(organization, { topicId: textOf(form, "topic") })}>
        <Field label="Topic" name="topic" required />
        <button type="submit" className="primary">
          List members
        </button>
      </Question>
      <Question label="A person" onAsk={() => void load(organization, { userId: user })}>
        <Field label="User" name="user" required value={user} onChange={({ target }) => setUser(target.value.trim())} />
        <button type="submit">List topics</button>
      </Question>
      <Said act={act} />
      {listed && (
        <>
          <Table
            caption={topic === undefined ? `What ${person} is a member of` : `Who is a member of ${topic}`}
            columns={[
              { heading: topic === undefined ? "Topic" : "User", cell: (id: string) => <Words>{id}</Words> },
              {
                heading: "Do",
                cell: (id: string) => (
                  <Sure
                    label="Remove"
                    of={id}
                    question={topic === undefined ? `${person} leaves ${id}.` : `${id} leaves ${topic}.`}
                    yes="Remove"
                    onSure={() => void remove(listed, id)}
                  />
                ),
              },
            ]}
            rows={listed.ids}
            keyOf={(id) => id}
            empty={topic === undefined ? "They are a member of nothing." : "It has no members, so there is no such topic."}
          />
          <div className="buttons">
            {listed.next && (
              <button type="button" disabled={act.isBusy} onClick={() => void load(listed.organizationId, listed.of, listed)}>
                More
              </button>
            )}
            {topic !== undefined && listed.ids.length > 0 && (
              <Sure
                label="Delete the topic"
                question={`All members leave ${topic}. What was sent to it stays.`}
                yes="Delete it"
                onSure={() => void end(listed.organizationId, topic)}
              />
            )}
          </div>
        </>
      )}
    </>
  );
}
