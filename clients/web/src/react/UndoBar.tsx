import { useSyncExternalStore } from "react";
import { useBell } from "./bell.js";
import type { Undo } from "./undo.js";

interface UndoBarProps {
  readonly undo: Undo;
  /** Called once it is undone. */
  readonly onUndone: (ids: readonly string[]) => void;
}

/** Says what was put away, with a button that brings it back. */
export function UndoBar({ undo, onUndone }: UndoBarProps) {
  const { labels } = useBell();
  const undoable = useSyncExternalStore(undo.subscribe, undo.undoable, undo.undoable);
  return (
    <div
      className="doorbell-undo"
      onPointerEnter={() => undo.hold(true)}
      onPointerLeave={() => undo.hold(false)}
      onFocus={() => undo.hold(true)}
      onBlur={() => undo.hold(false)}
    >
      <span role="status">{undoable && labels.putAway(undoable.verb, undoable.ids.length)}</span>
      {undoable && (
        <button
          type="button"
          className="doorbell-link"
          aria-keyshortcuts="Control+Z"
          onClick={() => onUndone(undo.undo())}
        >
          {labels.undo}
        </button>
      )}
    </div>
  );
}
