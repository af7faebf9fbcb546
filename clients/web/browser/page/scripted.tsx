// A bell over an inbox that a test makes up: what it shows, and how calls end.

import { createRoot } from "react-dom/client";
import { desktopNotifications, ringSound, titleBadge } from "../../src/index.js";
import { Inbox, Toasts, type InboxProps, type Slots, type ToastsProps } from "../../src/react/index.js";
import "../../style.css";
import { Scripted } from "./made.js";
import "./page.css";

declare global {
  interface Window {
    scripted: Scripted;
    /** Shows the bell with these, or takes it away. */
    render: (props: Omit<InboxProps, "inbox"> | undefined, toasts?: Omit<ToastsProps, "inbox">) => void;
    selected: string[];
    /** How often a row was rendered, by its title, where a test asks for that. */
    rendered: string[];
    slots?: Slots;
    helpers: typeof helpers;
  }
}

const helpers = { desktopNotifications, ringSound, titleBadge };
window.helpers = helpers;
const inbox = new Scripted();
const root = createRoot(document.getElementById("root") ?? document.body);
window.scripted = inbox;
window.selected = [];
window.rendered = [];
window.render = (props, toasts) =>
  root.render(
    <main>
      <h1>A page</h1>
      <div id="place">
        {props && <Inbox {...props} inbox={inbox} />}
      </div>
      {toasts && <Toasts {...toasts} inbox={inbox} />}
    </main>,
  );
window.render({});
