import type { InboxClient } from "@doorbell/web";
import type { Component } from "svelte";

declare const Page: Component<{ readonly inbox: InboxClient }>;
export default Page;
