// The page that the binary serves to operators.

import { StrictMode, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { Field } from "../shared/form.js";
import { useAct } from "./act.js";
import { Broadcast } from "./Broadcast.js";
import { SharedContext, type Shared } from "./context.js";
import { signIn, type Desk } from "./desk.js";
import { Erase } from "./Erase.js";
import { FollowUps } from "./FollowUps.js";
import { Inboxes } from "./Inboxes.js";
import { NodeFigures } from "./Node.js";
import { Question, Said, textOf } from "./parts.js";
import { Sends } from "./Sends.js";
import { Topics } from "./Topics.js";
import "./operator.css";

/** By what the address says after `#`, which names no tenant and no person. */
const SECTIONS = {
  inboxes: ["Inboxes", Inboxes],
  sends: ["Sends", Sends],
  broadcast: ["Broadcast", Broadcast],
  topics: ["Topics", Topics],
  "follow-ups": ["Follow-ups", FollowUps],
  erase: ["Erase", Erase],
  node: ["Node", NodeFigures],
} as const;
type Name = keyof typeof SECTIONS;
const NAMES = Object.keys(SECTIONS) as Name[];

function subscribeToHash(changed: () => void) {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

function useSection(): Name {
  const hash = useSyncExternalStore(subscribeToHash, () => location.hash.slice(1));
  return NAMES.find((name) => name === hash) ?? "inboxes";
}

function Page() {
  const [desk, setDesk] = useState<Desk>();
  const [why, setWhy] = useState("");
  const leave = (reason: string) => {
    setDesk(undefined);
    setWhy(reason);
  };
  if (!desk) return <SignIn why={why} onLeave={leave} onDesk={setDesk} />;
  return <Signed desk={desk} onLeave={() => leave("")} />;
}

interface SignInProps {
  /** Why it has to be done again; empty: it was not done, or ended by who did. */
  readonly why: string;
  readonly onLeave: (why: string) => void;
  readonly onDesk: (desk: Desk) => void;
}

function SignIn({ why, onLeave, onDesk }: SignInProps) {
  const act = useAct();
  const enter = (form: FormData) =>
    act.run(async () => onDesk(await signIn(textOf(form, "token"), onLeave)));
  return (
    <main className="sign-in">
      <h1>Doorbell, operators</h1>
      <p>This page needs the token of an operator. It forgets it when it is closed or loaded anew.</p>
      <Question label="Sign in" onAsk={(form) => void enter(form)}>
        <Field label="Token" name="token" className="secret" required />
        <button type="submit" className="primary" disabled={act.isBusy}>
          Sign in
        </button>
      </Question>
      {why && !act.isError && <p className="said error">{why}</p>}
      <Said act={act} />
    </main>
  );
}

function Signed({ desk, onLeave }: { readonly desk: Desk; readonly onLeave: () => void }) {
  const [organization, setOrganization] = useState("");
  const [user, setUser] = useState("");
  const shared = useMemo<Shared>(() => ({ desk, organization, user, setUser }), [desk, organization, user]);
  const name = useSection();
  const [title, Section] = SECTIONS[name];
  const heading = useRef<HTMLHeadingElement>(null);
  const shown = useRef(name);
  useEffect(() => {
    document.title = `${title} – Doorbell, operators`;
    // Who went there by a key or is read to is there.
    if (shown.current !== name) heading.current?.focus();
    shown.current = name;
  }, [name, title]);
  return (
    <SharedContext value={shared}>
      <header className="top">
        <p className="brand">Doorbell</p>
        <nav aria-label="Sections">
          {NAMES.map((of) => (
            <a key={of} href={`#${of}`} aria-current={of === name ? "page" : undefined}>
              {SECTIONS[of][0]}
            </a>
          ))}
        </nav>
        <Field
          label="Organization"
          value={organization}
          onChange={({ target }) => setOrganization(target.value.trim())}
        />
        <button type="button" onClick={onLeave}>
          Sign out
        </button>
      </header>
      <main>
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <Section key={name} />
      </main>
    </SharedContext>
  );
}

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Page />
    </StrictMode>,
  );
}
