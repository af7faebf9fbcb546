import { createRoot } from "react-dom/client";
import { createInbox } from "@doorbell/web";
import { Inbox, useInbox } from "@doorbell/web/react";
import "@doorbell/web/style.css";
import { announced, chosen, options, preferences } from "./page.js";

const inbox = createInbox(options);
inbox.onNotification(announced);

function Page() {
  const { unreadCount } = useInbox(inbox);
  return (
    <main>
      <h1>A page</h1>
      <output>{unreadCount}</output>
      <div id="place">
        <Inbox inbox={inbox} tabs preferences={preferences} onSelect={chosen} />
      </div>
    </main>
  );
}

const root = createRoot(document.getElementById("root") ?? document.body);
root.render(<Page />);
window.inbox = inbox;
window.release = () => root.unmount();
