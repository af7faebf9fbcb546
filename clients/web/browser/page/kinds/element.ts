import "@doorbell/web/element";
import { announced, chosen, options, preferences } from "./page.js";

const element = document.querySelector("doorbell-inbox");
const output = document.querySelector("output");
if (!element || !output) throw new Error("the page has no bell");
element.url = options.baseUrl;
element.getToken = options.getToken;
element.preferences = preferences;
element.addEventListener("doorbell-notification", ({ detail }) => announced(detail.notifications));
element.addEventListener("doorbell-select", (event) => chosen(event.detail.notification, event));
const inbox = element.client;
if (!inbox) throw new Error("the bell has no inbox");
inbox.subscribe(({ unreadCount }) => {
  output.value = String(unreadCount);
});
window.inbox = inbox;
window.release = () => element.remove();
