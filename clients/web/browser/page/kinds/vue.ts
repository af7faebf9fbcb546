import { createApp, h } from "vue";
import { createInbox } from "@doorbell/web";
import { DoorbellInbox, useInbox } from "@doorbell/web/vue";
import { announced, chosen, options, preferences } from "./page.js";

const inbox = createInbox(options);
const app = createApp({
  setup() {
    const snapshot = useInbox(inbox);
    return () =>
      h("main", [
        h("h1", "A page"),
        h("output", snapshot.value.unreadCount),
        h("div", { id: "place" }, [
          h(DoorbellInbox, { client: inbox, tabs: true, preferences, onNotification: announced, onSelect: chosen }),
        ]),
      ]);
  },
});
app.mount("#root");
window.inbox = inbox;
window.release = () => app.unmount();
