import type { InboxClient } from "../client.js";
import type { Snapshot } from "../snapshot.js";
import { useBell } from "./bell.js";
import { filled } from "./slots.js";

interface StandingProps {
  readonly inbox: InboxClient;
  readonly snapshot: Snapshot;
}

/** How it stands where it does not stand well. */
export function Standing({ inbox, snapshot }: StandingProps) {
  const { labels, slots } = useBell();
  const { status, error, pendingMarks } = snapshot;
  const isFailed = status === "failed";
  const said =
    status === "offline" || status === "reconnecting" || status === "delayed" || isFailed
      ? labels[status]
      : "";
  const problem = error && status !== "live" ? labels.problem(error) : "";
  const note = (said || problem) && (
    <div className={`doorbell-note ${isFailed ? "doorbell-error" : ""}`}>
      {said}{" "}
      {status !== "offline" && (
        <button type="button" className="doorbell-link" onClick={inbox.retry}>
          {labels.retry}
        </button>
      )}
      {problem && (
        <p className="doorbell-problem" dir="auto">
          {problem}
        </p>
      )}
    </div>
  );
  return (
    <div role="status">
      {isFailed ? filled(slots.error?.({ problem: error, retry: inbox.retry }), note) : note}
      {pendingMarks > 0 && <p className="doorbell-note">{labels.pendingMarks(pendingMarks)}</p>}
    </div>
  );
}
