import { useEffect, useId, useMemo, useSyncExternalStore } from "react";
import type { InboxClient } from "../client.js";
import { useBell } from "./bell.js";
import { filled } from "./slots.js";
import { Switches, switchesOf, type Switch, type TypeNames } from "./switches.js";

interface PreferencesProps {
  readonly inbox: InboxClient;
  readonly names: TypeNames;
  /** Of the title. */
  readonly id: string;
  /** To the list. */
  readonly back: () => void;
}

/** What a person has, in place of the list: a switch for each type. */
export function Preferences({ inbox, names, id, back }: PreferencesProps) {
  const { labels, slots } = useBell();
  const switches = useMemo(() => new Switches(inbox), [inbox]);
  const { preferences, isFailed, unsaved } = useSyncExternalStore(switches.subscribe, switches.standing);
  useEffect(() => void switches.load(), [switches]);
  const all = preferences && switchesOf(preferences, names);
  const lost = all?.find(({ type }) => type === unsaved);
  const said = isFailed ? labels.preferencesFailed : lost ? labels.notSaved(lost.name) : "";
  return (
    <>
      <div className="doorbell-top">
        <div className="doorbell-head">
          <button
            type="button"
            className="doorbell-verb doorbell-back"
            aria-label={labels.back}
            title={labels.back}
            onClick={back}
          />
          <h2 id={id} className="doorbell-title">
            {labels.preferences}
          </h2>
        </div>
      </div>
      <div role="status">
        {said && (
          <div className="doorbell-note doorbell-error">
            {said}{" "}
            {isFailed && (
              <button type="button" className="doorbell-link" onClick={() => void switches.load()}>
                {labels.retry}
              </button>
            )}
          </div>
        )}
      </div>
      {!all &&
        !isFailed &&
        filled(
          slots.loading?.(),
          <p className="doorbell-empty" aria-busy="true">
            {labels.loading}
          </p>,
        )}
      {all?.length === 0 && <p className="doorbell-empty">{labels.noPreferences}</p>}
      {all && all.length > 0 && (
        <ul role="list" className="doorbell-switches">
          {all.map((one) => (
            <li key={one.type}>
              <Lever of={one} press={() => switches.press(one.type, !one.isOn)} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

interface LeverProps {
  readonly of: Switch;
  readonly press: () => void;
}

/** One of them. What cannot be turned off can have the focus all the same, so that who goes
 * by the keys hears why. */
function Lever({ of: { name, isOn, isRequired }, press }: LeverProps) {
  const { labels } = useBell();
  const id = useId();
  return (
    <button
      type="button"
      role="switch"
      className="doorbell-switch"
      aria-checked={isOn}
      aria-labelledby={id}
      {...(isRequired && { "aria-disabled": true, "aria-describedby": `${id}-why` })}
      onClick={isRequired ? undefined : press}
    >
      <span className="doorbell-name">
        <bdi id={id}>{name}</bdi>
        {isRequired && (
          <span id={`${id}-why`} className="doorbell-why">
            {labels.required}
          </span>
        )}
      </span>
      <span className="doorbell-track" />
    </button>
  );
}
