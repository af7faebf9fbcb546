// The parts that all sections are made of. What somebody else wrote is text on this page,
// and a link only where it leads to http or https.

import { timestampDate, timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { useEffect, useId, useRef, useState, type ComponentProps, type FormEvent, type ReactNode } from "react";
import type { Act } from "./act.js";

interface ChoiceProps extends ComponentProps<"select"> {
  readonly label: string;
  /** What each is worth, and what it is called. */
  readonly options: readonly (readonly [number | string, string])[];
}

export function Choice({ label, options, ...select }: ChoiceProps) {
  return (
    <label>
      {label}
      <select {...select}>
        {options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Tick({ label, ...input }: ComponentProps<"input"> & { readonly label: string }) {
  return (
    <label className="tick">
      <input type="checkbox" {...input} /> {label}
    </label>
  );
}

interface QuestionProps {
  readonly label: string;
  readonly onAsk: (form: FormData) => void;
  readonly children: ReactNode;
}

/** A form that sends itself nowhere. */
export function Question({ label, onAsk, children }: QuestionProps) {
  const ask = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    onAsk(new FormData(event.currentTarget));
  };
  return (
    <form className="question" aria-label={label} onSubmit={ask}>
      {children}
    </form>
  );
}

/** What a form says; empty where it has no such field. */
export function textOf(form: FormData, name: string): string {
  return String(form.get(name) ?? "").trim();
}

/** A moment of a form, of this browser's time zone; none where it is empty. */
export function momentOf(form: FormData, name: string): Timestamp | undefined {
  const text = textOf(form, name);
  return text ? timestampFromMs(new Date(text).getTime()) : undefined;
}

/** What came of what was done. A refusal is said at once. */
export function Said({ act: { said, isError, isBusy } }: { readonly act: Act }) {
  return (
    <>
      <p className="said" role="status">
        {isBusy ? "One moment …" : !isError && said}
      </p>
      <p className="said error" role="alert">
        {!isBusy && isError && said}
      </p>
    </>
  );
}

export function Moment({ at }: { readonly at: Timestamp | undefined }) {
  if (!at) return <>–</>;
  const date = timestampDate(at);
  return <time dateTime={date.toISOString()}>{date.toLocaleString()}</time>;
}

/** A URL as it was sent. */
export function Url({ url }: { readonly url: string }) {
  if (!/^https?:\/\//i.test(url)) return <code>{url}</code>;
  return (
    <a href={url} target="_blank" rel="noreferrer noopener">
      {url}
    </a>
  );
}

/** What somebody wrote, in whatever direction. */
export function Words({ children }: { readonly children: string }) {
  return <bdi>{children}</bdi>;
}

export interface Column<Row> {
  readonly heading: string;
  readonly cell: (row: Row) => ReactNode;
}

interface TableProps<Row> {
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  /** What is said where there is none. */
  readonly empty: string;
}

/** A table, and where it is narrow a card for each row: the roles stay what they are. */
export function Table<Row>({ caption, columns, rows, keyOf, empty }: TableProps<Row>) {
  if (rows.length === 0) return <p className="empty">{empty}</p>;
  return (
    <table role="table">
      <caption>{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map(({ heading }) => (
            <th key={heading} role="columnheader" scope="col">
              {heading}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={keyOf(row)} role="row">
            {columns.map(({ heading, cell }) => (
              <td key={heading} role="cell" data-heading={heading}>
                <div>{cell(row)}</div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

interface SureProps {
  /** What the button says. */
  readonly label: string;
  /** What it is of, for who does not see where it stands. */
  readonly of?: string;
  /** What to ask before. */
  readonly question: string;
  /** The answer that does it. */
  readonly yes: string;
  readonly isDisabled?: boolean;
  readonly onSure: () => void;
}

/** A button that asks once more. */
export function Sure({ label, of, question, yes, isDisabled, onSure }: SureProps) {
  const [isAsking, setAsking] = useState(false);
  const no = useRef<HTMLButtonElement>(null);
  const first = useRef<HTMLButtonElement>(null);
  const wasAsking = useRef(false);
  const id = useId();
  // The focus stays where somebody is, and on what does nothing.
  useEffect(() => {
    if (isAsking) no.current?.focus();
    else if (wasAsking.current) first.current?.focus();
    wasAsking.current = isAsking;
  }, [isAsking]);
  if (!isAsking) {
    const name = of ? { "aria-label": `${label}: ${of}` } : {};
    return (
      <button ref={first} type="button" disabled={isDisabled} {...name} onClick={() => setAsking(true)}>
        {label}
      </button>
    );
  }
  const answer = (isSure: boolean) => () => {
    setAsking(false);
    if (isSure) onSure();
  };
  return (
    <span
      className="sure"
      role="group"
      aria-labelledby={id}
      onKeyDown={({ key }) => key === "Escape" && setAsking(false)}
    >
      <span id={id}>{question}</span>
      <button type="button" className="danger" onClick={answer(true)}>
        {yes}
      </button>
      <button ref={no} type="button" onClick={answer(false)}>
        No
      </button>
    </span>
  );
}
