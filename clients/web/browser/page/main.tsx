// A page with a bell, as somebody would make it; tests set its options beforehand.

import type { ReactNode } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { createInbox, type InboxClient, type InboxOptions, type InboxView } from "../../src/index.js";
import { Inbox, type InboxProps } from "../../src/react/index.js";
import "../../style.css";
import "./page.css";

declare global {
  interface Window {
    options: Partial<InboxOptions> & { baseUrl: string; token?: string };
    /** A new token, from the test. */
    mint?: () => Promise<string>;
    inbox: InboxClient;
    /** A view of what is archived, where a test opens one. */
    archive?: InboxView;
    announced: string[];
    /** Somebody else is signed in, in one commit; with `isKeyed` the bell is another. */
    become: (user: string, token: string) => void;
    isKeyed?: boolean;
    /** Shows the bell with these, too. */
    choose: (props: Omit<InboxProps, "inbox" | "user">) => void;
    /** What a slot of a test may answer with: a button. */
    linkTo: (text: string, press: () => void) => ReactNode;
    /** What the inbox was, where a test notes it. */
    statuses: string[];
  }
}

const { token: given, ...options } = window.options;
let token = given;
let person: string | undefined;
window.announced = [];
window.inbox = createInbox({
  ...options,
  getToken: (fresh) => (window.mint && (fresh || !token) ? window.mint() : (token ?? "")),
});
window.inbox.onNotification((notifications) => {
  window.announced.push(...notifications.map(({ title }) => title));
});

let chosen: Omit<InboxProps, "inbox" | "user"> = {};
const root = createRoot(document.getElementById("root") ?? document.body);
const render = () =>
  root.render(
    <main>
      <h1>A page</h1>
      <div id="place">
        <Inbox {...chosen} key={window.isKeyed ? person : 0} inbox={window.inbox} user={person} />
      </div>
    </main>,
  );
window.become = (user, theirs) => {
  [person, token] = [user, theirs];
  flushSync(render);
};
window.choose = (props) => {
  chosen = props;
  flushSync(render);
};
window.linkTo = (text, press) => (
  <button type="button" onClick={press}>
    {text}
  </button>
);
render();
