// A page with a bell, as somebody would make it; tests set its options beforehand.

import { createRoot } from "react-dom/client";
import { createInbox, type InboxClient, type InboxOptions } from "../../src/index.js";
import { Inbox } from "../../src/react/index.js";
import "../../style.css";
import "./page.css";

declare global {
  interface Window {
    options: Partial<InboxOptions> & { baseUrl: string; token?: string };
    /** A new token, from the test. */
    mint?: () => Promise<string>;
    inbox: InboxClient;
    announced: string[];
    /** What the inbox was, where a test notes it. */
    statuses: string[];
  }
}

const { token, ...options } = window.options;
window.announced = [];
window.inbox = createInbox({
  ...options,
  getToken: (fresh) => (window.mint && (fresh || !token) ? window.mint() : (token ?? "")),
});
window.inbox.onNotification((notification) => window.announced.push(notification.title));

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <main>
      <h1>A page</h1>
      <div id="place">
        <Inbox inbox={window.inbox} />
      </div>
    </main>,
  );
}
