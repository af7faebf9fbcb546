// The page that `doorbell dev` serves: two users with their bells and toasts, what their
// streams say, and a form that sends, corrects and takes back.

import { StrictMode, useMemo } from "react";
import { createRoot } from "react-dom/client";
import { cast } from "./cast.js";
import { Screen } from "./Screen.js";
import { Sender } from "./Sender.js";
import "../style.css";
import "./live.css";

function Page() {
  const found = useMemo(cast, []);
  if (!found) {
    return (
      <main>
        <h1>Doorbell, live</h1>
        <p>
          This page needs the tokens that <code>doorbell dev</code> prints: open the link as it
          stands there, to its end.
        </p>
      </main>
    );
  }
  return (
    <main>
      <h1>Doorbell, live</h1>
      <Sender cast={found} />
      <div className="screens">
        {found.people.map((person, at) => (
          <Screen key={person.user} person={person} isInTitle={at === 0} />
        ))}
      </div>
    </main>
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
