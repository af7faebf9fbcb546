// What the organization's backends are told of: notifications that nobody looked at in time.

import { useState } from "react";
import { Field } from "../shared/form.js";
import { FollowUpUnless } from "../src/gen/doorbell/v1/notifications_pb.js";
import type { FollowUp } from "../src/gen/doorbell/v1/sends_pb.js";
import { useAct } from "./act.js";
import { useShared } from "./context.js";
import { stateOf } from "./Inboxes.js";
import { Moment, Question, Said, Table, textOf, Words, type Column } from "./parts.js";

const PAGE = 50;

interface Listed {
  readonly organizationId: string;
  readonly rows: readonly FollowUp[];
  readonly position: bigint;
  readonly epoch: string;
  readonly isAll: boolean;
}

const COLUMNS: readonly Column<FollowUp>[] = [
  { heading: "Position", cell: ({ position }) => String(position) },
  { heading: "User", cell: ({ userId }) => <Words>{userId}</Words> },
  {
    heading: "Notification",
    cell: ({ notification }) => (
      <>
        <Words>{notification?.title || "(removed)"}</Words>
        <small>
          <code>{notification?.id}</code>
        </small>
      </>
    ),
  },
  { heading: "Due", cell: ({ dueTime }) => <Moment at={dueTime} /> },
  { heading: "Was not", cell: ({ unless }) => (unless === FollowUpUnless.READ ? "read" : "seen") },
  { heading: "State", cell: ({ notification }) => notification && stateOf(notification) },
];

export function FollowUps() {
  const { desk, organization } = useShared();
  const act = useAct();
  const [listed, setListed] = useState<Listed>();

  const load = (organizationId: string, afterPosition: bigint, before?: Listed) =>
    act.run(async () => {
      // A position is one of a life of the database, which any answer names.
      const isUnknown = !before && afterPosition > 0n;
      const first = isUnknown ? await desk.sends.listFollowUps({ organizationId, limit: 1 }) : before;
      const request = { organizationId, afterPosition, epoch: first?.epoch ?? "", limit: PAGE };
      const answer = await desk.sends.listFollowUps(request);
      // After a restore all is listed anew.
      const rows = before?.epoch === answer.epoch ? before.rows : [];
      const { followUps, position, epoch } = answer;
      setListed({ organizationId, rows: [...rows, ...followUps], position, epoch, isAll: followUps.length === 0 });
    });
  return (
    <>
      <Question
        label="Follow-ups"
        onAsk={(form) => void load(organization, BigInt(textOf(form, "after") || "0"))}
      >
        <Field label="After position" name="after" inputMode="numeric" pattern="[0-9]{1,19}" placeholder="0" />
        <button type="submit" className="primary">
          List
        </button>
      </Question>
      <Said act={act} />
      {listed && (
        <>
          <Table
            caption={`Of ${listed.organizationId}, the oldest first`}
            columns={COLUMNS}
            rows={listed.rows}
            keyOf={({ position }) => String(position)}
            empty="There is none after it."
          />
          {!listed.isAll && (
            <button
              type="button"
              disabled={act.isBusy}
              onClick={() => void load(listed.organizationId, listed.position, listed)}
            >
              More
            </button>
          )}
        </>
      )}
    </>
  );
}
