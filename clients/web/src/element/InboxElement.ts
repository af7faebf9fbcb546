// `<doorbell-inbox>`: the bell and its list in a shadow root.
//
// Promises: importing it touches nothing of a page; it adds no inline style, so a strict
// policy allows it; taken out of the page it stops, moved within it it goes on.

import { createInbox, type Arrival, type InboxClient } from "../client.js";
import type { Navigate } from "../link.js";
import type { Action, Notification } from "../notification.js";
import type { Labels } from "../react/labels.js";
import type { Placement } from "../react/place.js";
import type { TypeNames } from "../react/switches.js";
import type { TabName, Tabs } from "../react/tabs.js";
import { use } from "../usage.js";
import style from "../../style.css?inline";
import { slotsOf } from "./Foreign.js";
import type { ElementSlots } from "./slots.js";
import { show } from "./view.js";

/** What the element is given, as properties. What is text, a number or a yes or no can be an
 * attribute of the same name in kebab-case: of both the later one holds. */
export interface InboxElementProps {
  /** Where the service is. With `getToken` the element has an inbox of its own. */
  url?: string | undefined;
  /** Answers with a token of the user, see `InboxOptions`. */
  getToken?: ((fresh: boolean) => string | Promise<string>) | undefined;
  /** The inbox to show, in place of one of its own. */
  client?: InboxClient | undefined;
  /** Whose inbox it is, see `start`: nothing of another user is shown. */
  user?: string | undefined;
  /** `true` for all, unread and archived; or which, with those of your own; none. As an
   * attribute the names, with spaces between them, or nothing for all three. */
  tabs?: Tabs | undefined;
  /** Whether the person can say here which types they want, or the types with their names;
   * `false`. */
  preferences?: boolean | TypeNames | undefined;
  /** Where the list stands at the bell; `below-end`. */
  placement?: Placement | undefined;
  /** The look; as the system says where it is absent. */
  theme?: "light" | "dark" | undefined;
  /** For times; the browser's language where it is absent. */
  locale?: string | undefined;
  /** Texts in place of the English ones. */
  labels?: Partial<Labels> | undefined;
  /** Parts of the page's own in place of those of the bell. */
  slots?: ElementSlots | undefined;
  /** Follows links of the page's own origin in place of the browser, as a router does. */
  navigate?: Navigate | undefined;
  /** Whether a choice closes the list; where it is not said, one whose link is followed
   * does. */
  closeOnSelect?: boolean | undefined;
  /** How long what was archived or removed can be brought back, in milliseconds; 6,000. */
  undoDuration?: number | undefined;
  /** Whether the list is open. The attribute follows it. */
  open?: boolean | undefined;
}

/** What the element tells: each event bubbles, out of shadow roots too. */
export interface InboxElementEvents {
  /** What is new while it happens, see `onNotification`. */
  "doorbell-notification": CustomEvent<{
    readonly notifications: readonly Notification[];
    readonly how: Arrival;
    readonly leads: boolean;
  }>;
  /** The person has opened the list, or closed it. */
  "doorbell-open": CustomEvent<null>;
  "doorbell-close": CustomEvent<null>;
  /** A notification is chosen, by a click that is `event`. Where this is prevented, no link is
   * followed and the list stays open. */
  "doorbell-select": CustomEvent<{ readonly notification: Notification; readonly event: MouseEvent }>;
  /** The same for one of its `actions`. */
  "doorbell-action": CustomEvent<{
    readonly action: Action;
    readonly notification: Notification;
    readonly event: MouseEvent;
  }>;
}

const PLACEMENTS: readonly Placement[] = ["below-start", "below-end", "above-start", "above-end", "before", "after"];
const TAB_NAMES: readonly TabName[] = ["all", "unread", "archived"];

/** Says to who made the page what is wrong with it. */
const complain = (what: string) => console.error(`Doorbell: <doorbell-inbox>: ${what}`);

/** One of these texts; another one is said to be none, and is left out. */
function oneOf<T extends string>(name: string, text: string, known: readonly T[]): T | undefined {
  const found = known.find((one) => one === text);
  if (found === undefined) complain(`${name} is one of ${known.join(", ")}, and not ${JSON.stringify(text)}.`);
  return found;
}

function numberOf(name: string, text: string): number | undefined {
  const number = Number(text);
  if (text.trim() !== "" && number >= 0) return number;
  complain(`${name} is a number of milliseconds, and not ${JSON.stringify(text)}.`);
  return undefined;
}

function tabsOf(name: string, text: string): Tabs {
  const isFlag = text === "" || text === "true" || text === "false";
  if (isFlag) return text !== "false";
  return text.split(/\s+/).flatMap((one) => (one === "" ? [] : (oneOf(name, one, TAB_NAMES) ?? [])));
}

/** What each attribute says, where it is there. */
const ATTRIBUTES: {
  readonly [name: string]: {
    readonly prop: keyof InboxElementProps;
    readonly read: (name: string, text: string) => unknown;
  };
} = {
  url: { prop: "url", read: (_, text) => text },
  user: { prop: "user", read: (_, text) => text },
  locale: { prop: "locale", read: (_, text) => text || undefined },
  theme: { prop: "theme", read: (name, text) => oneOf(name, text, ["light", "dark"]) },
  placement: { prop: "placement", read: (name, text) => oneOf(name, text, PLACEMENTS) },
  tabs: { prop: "tabs", read: tabsOf },
  preferences: { prop: "preferences", read: (_, text) => text !== "false" },
  "close-on-select": { prop: "closeOnSelect", read: (_, text) => text !== "false" },
  "undo-duration": { prop: "undoDuration", read: numberOf },
  open: { prop: "open", read: () => true },
};

/** Those that are no more than kept and shown. */
const PLAIN = [
  "url",
  "getToken",
  "user",
  "tabs",
  "preferences",
  "placement",
  "theme",
  "locale",
  "labels",
  "navigate",
  "closeOnSelect",
  "undoDuration",
] as const satisfies readonly (keyof InboxElementProps)[];

/** Without what it needs for so long, it says so. */
const PATIENCE_MS = 10_000;

let sheet: CSSStyleSheet | undefined;

/** The style of all elements: made by a script, which no policy for styles forbids. */
function styleSheet(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(`:host{display:inline-block}:host([hidden]){display:none}.doorbell-own{display:contents}${style}`);
  }
  return sheet;
}

/** An inbox of its own. */
interface Own {
  readonly url: string;
  readonly client: InboxClient;
}

// Where there is no page there is no such class, and nobody makes one of these.
const Base = (globalThis as Partial<typeof globalThis>).HTMLElement ?? (class {} as typeof HTMLElement);

/** The element. */
export interface InboxElement extends InboxElementProps {
  addEventListener<K extends keyof InboxElementEvents>(
    type: K,
    listener: (this: InboxElement, event: InboxElementEvents[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: InboxElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof InboxElementEvents>(
    type: K,
    listener: (this: InboxElement, event: InboxElementEvents[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: InboxElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

export class InboxElement extends Base {
  static readonly observedAttributes: readonly string[] = Object.keys(ATTRIBUTES);

  readonly #given: InboxElementProps = {};
  #own: Own | undefined;
  #slots: ReturnType<typeof slotsOf> | undefined;
  /** Ends the use of what is shown. */
  #end: (() => void) | undefined;
  #shown: { readonly client: InboxClient; readonly user: string | undefined } | undefined;
  #isBehind = false;
  #patience: ReturnType<typeof setTimeout> | undefined;

  static {
    for (const name of PLAIN) {
      Object.defineProperty(this.prototype, name, {
        configurable: true,
        enumerable: true,
        get(this: InboxElement) {
          return this.#given[name];
        },
        set(this: InboxElement, value: unknown) {
          this.#give(name, value);
        },
      });
    }
  }

  /** The inbox that is shown: the one that was given, or its own; nothing as long as it has
   * neither that nor both `url` and `getToken`. */
  get client(): InboxClient | undefined {
    const { client, url, getToken } = this.#given;
    if (client || url === undefined || !getToken) return client;
    if (this.#own?.url !== url) {
      const options = { baseUrl: url, getToken: (fresh: boolean) => (this.#given.getToken ?? getToken)(fresh) };
      this.#own = { url, client: createInbox(options) };
    }
    return this.#own.client;
  }

  set client(client: InboxClient | undefined) {
    this.#give("client", client);
  }

  get slots(): ElementSlots | undefined {
    return this.#given.slots;
  }

  set slots(slots: ElementSlots | undefined) {
    this.#slots = slots && slotsOf(slots);
    this.#give("slots", slots);
  }

  get open(): boolean {
    return this.#given.open ?? false;
  }

  set open(isOpen: boolean | undefined) {
    this.toggleAttribute("open", isOpen ?? false);
  }

  connectedCallback(): void {
    // What was set before it was registered stands in the way of what is defined here.
    for (const name of [...PLAIN, "client", "slots", "open"] as const) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      Object.assign(this, { [name]: value });
    }
    if (!this.shadowRoot) this.attachShadow({ mode: "open" }).adoptedStyleSheets = [styleSheet()];
    this.#patience = setTimeout(() => {
      if (!this.client) complain("set its url and its property getToken, or its property client: it shows nothing yet.");
    }, PATIENCE_MS);
    this.#change();
  }

  disconnectedCallback(): void {
    clearTimeout(this.#patience);
    this.#leave();
    if (this.shadowRoot) show(this.shadowRoot, undefined);
  }

  /** Moved by `moveBefore` it stays as it is. */
  connectedMoveCallback(): void {}

  attributeChangedCallback(name: string, _: string | null, text: string | null): void {
    const { prop, read } = ATTRIBUTES[name] ?? {};
    if (prop) this.#give(prop, text === null ? undefined : read?.(name, text));
  }

  /** Gives the bell the focus. */
  override focus(options?: FocusOptions): void {
    this.shadowRoot?.querySelector<HTMLElement>(".doorbell-bell")?.focus(options);
  }

  #give(name: keyof InboxElementProps, value: unknown): void {
    if (Object.is(this.#given[name], value)) return;
    Object.assign(this.#given, { [name]: value });
    this.#change();
  }

  /** Shows what changed, all that does at once. */
  #change(): void {
    if (this.#isBehind || !this.isConnected) return;
    this.#isBehind = true;
    queueMicrotask(() => {
      this.#isBehind = false;
      if (this.isConnected) this.#show();
    });
  }

  #show(): void {
    const root = this.shadowRoot;
    const { client } = this;
    if (!root) return;
    const { user, placement, theme, locale, labels, tabs, preferences, navigate } = this.#given;
    if (client !== this.#shown?.client || user !== this.#shown?.user) {
      this.#leave();
      if (client) this.#enter(client, user);
    }
    show(
      root,
      client && {
        inbox: client,
        user,
        placement,
        theme,
        locale,
        labels,
        tabs,
        preferences,
        navigate,
        slots: this.#slots,
        closeOnSelect: this.#given.closeOnSelect,
        undoDuration: this.#given.undoDuration,
        open: this.open,
        onOpenChange: (isOpen) => {
          this.open = isOpen;
          this.#tell(isOpen ? "doorbell-open" : "doorbell-close", null);
        },
        onSelect: (notification, event) => {
          if (!this.#tell("doorbell-select", { notification, event: event.nativeEvent })) event.preventDefault();
        },
        onAction: (action, notification, event) => {
          const detail = { action, notification, event: event.nativeEvent };
          if (!this.#tell("doorbell-action", detail)) event.preventDefault();
        },
      },
    );
  }

  #enter(client: InboxClient, user: string | undefined): void {
    const stop = use(client, user);
    const forget = client.onNotification((notifications, how, leads) => {
      this.#tell("doorbell-notification", { notifications, how, leads });
    });
    this.#shown = { client, user };
    this.#end = () => {
      forget();
      stop();
    };
  }

  #leave(): void {
    this.#end?.();
    this.#end = undefined;
    this.#shown = undefined;
  }

  /** Answers whether nobody prevents what it tells. */
  #tell<K extends keyof InboxElementEvents>(type: K, detail: InboxElementEvents[K]["detail"]): boolean {
    const isChoice = type === "doorbell-select" || type === "doorbell-action";
    return this.dispatchEvent(new CustomEvent(type, { bubbles: true, composed: true, cancelable: isChoice, detail }));
  }
}
