// The element over an inbox that a test makes up; it is registered when the test says so.

import { Scripted } from "./made.js";

declare global {
  interface Window {
    scripted: Scripted;
    /** Registers the element. */
    register: () => Promise<unknown>;
    /** What the element told, and to whom. */
    told: string[];
  }
}

window.scripted = new Scripted();
window.told = [];
window.register = async () => await import("@doorbell/web/element");
