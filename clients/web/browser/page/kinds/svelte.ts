import { mount, unmount } from "svelte";
import { createInbox } from "@doorbell/web";
import { options } from "./page.js";
import Page from "./Page.svelte";

const inbox = createInbox(options);
const page = mount(Page, { target: document.getElementById("root") ?? document.body, props: { inbox } });
window.inbox = inbox;
window.release = () => void unmount(page);
