// How the node that answers is, as it goes on.

import { durationMs, timestampMs, type Duration } from "@bufbuild/protobuf/wkt";
import { useEffect, useState, type ReactNode } from "react";
import { BusState, StoreKind, type GetNodeResponse } from "../src/gen/doorbell/v1/operators_pb.js";
import { useAct, useRepeated } from "./act.js";
import { useShared } from "./context.js";
import { Moment, Said } from "./parts.js";

const LOOK_MS = 2000;

const BUSES: Record<BusState, string> = {
  [BusState.UNSPECIFIED]: "unknown",
  [BusState.NONE]: "none: this node is alone",
  [BusState.CONNECTED]: "connected",
  [BusState.AWAY]: "away",
};
const STORES: Record<StoreKind, string> = {
  [StoreKind.UNSPECIFIED]: "unknown",
  [StoreKind.SQLITE]: "SQLite",
  [StoreKind.POSTGRES]: "Postgres",
};

/** The last two answers: rates are between them. */
interface Looks {
  readonly now: GetNodeResponse;
  readonly before: GetNodeResponse | undefined;
}

export function NodeFigures() {
  const { desk } = useShared();
  const act = useAct();
  const [looks, setLooks] = useState<Looks>();
  const { run } = act;
  const look = () =>
    run(async () => {
      const now = await desk.operators.getNode({});
      // A balancer may lead to another node: then there is nothing to compare with.
      setLooks((last) => ({ now, before: last && isSame(last.now, now) ? last.now : undefined }));
    });
  useEffect(() => void look(), [desk]);
  useRepeated(look, LOOK_MS);
  return (
    <>
      {(act.isError || !looks) && <Said act={act} />}
      {looks && <Figures of={looks} />}
    </>
  );
}

function isSame(a: GetNodeResponse, b: GetNodeResponse): boolean {
  return a.startedAt?.seconds === b.startedAt?.seconds && a.startedAt?.nanos === b.startedAt?.nanos;
}

function Figures({ of: { now, before } }: { readonly of: Looks }) {
  const seconds = before ? (timeOf(now) - timeOf(before)) / 1000 : 0;
  /** How many a second. */
  const rate = (of: (look: GetNodeResponse) => bigint) => {
    if (!before || seconds <= 0) return "–";
    return `${(Number(of(now) - of(before)) / seconds).toFixed(1)} a second`;
  };
  /** How long one took of those since the last look, or of all where there was none. */
  const each = (count: (look: GetNodeResponse) => bigint, time: (look: GetNodeResponse) => Duration | undefined) => {
    const many = Number(count(now) - (before ? count(before) : 0n));
    const took = milliseconds(time(now)) - (before ? milliseconds(time(before)) : 0);
    return many > 0 ? `${(took / many).toFixed(1)} ms` : "–";
  };
  return (
    <>
      <p className={now.ready ? "summary" : "summary error"}>
        {now.ready ? "Ready" : "Not ready"}
        {now.remark && `: ${now.remark}`}
      </p>
      <div className="figures">
        <Group title="The node">
          <Figure name="Version">{now.version}</Figure>
          <Figure name="Started">
            <Moment at={now.startedAt} />
          </Figure>
          <Figure name="Store">{STORES[now.store]}</Figure>
          <Figure name="Bus">{BUSES[now.bus]}</Figure>
        </Group>
        <Group title="Streams">
          <Figure name="Open">{String(now.streamCount)}</Figure>
          <Figure name="Inboxes">{String(now.roomCount)}</Figure>
          <Figure name="Connections">{String(now.connectionCount)}</Figure>
          <Figure name="Notifications">{rate((look) => look.deliveryCount)}</Figure>
          <Figure name="From send to stream">{each((look) => look.deliveryCount, (look) => look.deliveryTime)}</Figure>
          <Figure name="Lagged and healed">{String(now.lagHealCount)}</Figure>
        </Group>
        <Group title="Writes">
          <Figure name="Calls that send">{rate((look) => look.sendCallCount)}</Figure>
          <Figure name="Writes">{rate((look) => look.writeCount)}</Figure>
          <Figure name="A transaction">{each((look) => look.commitCount, (look) => look.commitTime)}</Figure>
          <Figure name="Waiting">{String(now.queuedCount)}</Figure>
          <Figure name="Failed transactions">{String(now.failedCommitCount)}</Figure>
          <Figure name="Turned away">{String(now.rejectedCount)}</Figure>
        </Group>
        <Group title="What falls due">
          <Figure name="Done by">{now.sweeps ? "this node" : "another node, or none"}</Figure>
          <Figure name="Late by">{`${(milliseconds(now.sweeperLate) / 1000).toFixed(1)} s`}</Figure>
        </Group>
      </div>
    </>
  );
}

const timeOf = ({ time }: GetNodeResponse) => (time ? timestampMs(time) : 0);
const milliseconds = (duration: Duration | undefined) => (duration ? durationMs(duration) : 0);

function Group({ title, children }: { readonly title: string; readonly children: ReactNode }) {
  return (
    <section className="card">
      <h2>{title}</h2>
      <dl>{children}</dl>
    </section>
  );
}

function Figure({ name, children }: { readonly name: string; readonly children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
