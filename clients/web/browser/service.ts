// The real binary, a server for pages, and a real Chromium.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { compile } from "svelte/compiler";
import { build, type Plugin } from "vite";
import type { InboxOptions } from "../src/index.js";

const ROOT = resolve(import.meta.dirname, "../../..");
const DOORBELL = process.env["DOORBELL"] ?? join(ROOT, "target/debug/doorbell");
const CHROMIUM = "/usr/bin/chromium";

/** Waits until `look` finds something, and answers with it. */
export async function until<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  patience = 15_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false && found !== null) return found as NonNullable<T>;
    if (Date.now() > deadline) throw new Error(`not within ${patience} ms: ${what}`);
    await new Promise((wait) => setTimeout(wait, 25));
  }
}

/** A loopback port that is free now, below those that the system gives out. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const free = await new Promise<boolean>((answer) => {
      const probe = createServer();
      probe.once("error", () => answer(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => answer(true)));
    });
    if (free) return port;
  }
}

/** `doorbell dev` in a directory of its own. */
export class Doorbell {
  readonly #directory = mkdtempSync(join(tmpdir(), "doorbell-"));
  #child: ChildProcess | undefined;
  #said = "";
  port = 0;
  metricsPort = 0;

  static async start(): Promise<Doorbell> {
    if (!existsSync(DOORBELL)) throw new Error(`there is no ${DOORBELL}: run cargo build first`);
    const doorbell = new Doorbell();
    doorbell.port = await freePort();
    doorbell.metricsPort = await freePort();
    await doorbell.restart();
    return doorbell;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** What it printed of this kind: `SENDER`, `ALICE`, `BOB`, `OPERATOR`. */
  token(name: string): string {
    return new RegExp(`${name}='([^']+)'`).exec(this.#said)?.[1] ?? "";
  }

  /** The link to the live page that it printed. */
  get link(): string {
    return /http:\S+#\S+/.exec(this.#said)?.[0] ?? "";
  }

  /** Where the operators' page is. */
  get operatorPage(): string {
    return /http:\S+\/operator$/m.exec(this.#said)?.[0] ?? "";
  }

  async restart(): Promise<void> {
    this.#said = "";
    this.#child = spawn(DOORBELL, ["dev"], {
      env: {
        DOORBELL_DATA_DIR: this.#directory,
        DOORBELL_LISTEN: `127.0.0.1:${this.port}`,
        DOORBELL_METRICS_LISTEN: `127.0.0.1:${this.metricsPort}`,
        DOORBELL_HEARTBEAT_INTERVAL: "2s",
      },
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (text: Buffer) => (this.#said += text.toString()));
    await until("what it prints", () => this.token("OPERATOR") !== "" && this.link !== "");
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Runs a command of the same binary. */
  async run(...words: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(DOORBELL, words, {
      env: { DOORBELL_DATA_DIR: this.#directory },
    });
    return stdout.trim();
  }

  /** Runs a command of senders. */
  async asSender(command: string, ...words: string[]): Promise<string> {
    const [name = "", ...more] = command.split(" ");
    const how = ["--token", this.token("SENDER"), "--url", this.url];
    return await this.run(name, ...more, ...how, ...words);
  }

  async send(user: "alice" | "bob", title: string, type = "test"): Promise<void> {
    const organization = user === "alice" ? "acme" : "globex";
    const to = ["--organization", organization, "--user", user, "--type", type];
    const token = ["--token", this.token("SENDER"), "--url", this.url];
    await this.run("send", ...token, ...to, "--title", title);
  }

  /** A token of Alice's for so long. */
  async mint(lifetime: string): Promise<string> {
    const whose = ["--organization", "acme", "--user", "alice"];
    return await this.run("token", ...whose, "--lifetime", lifetime);
  }

  /** The value of a metric. */
  async metric(name: string): Promise<number> {
    const answer = await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`);
    const line = (await answer.text()).split("\n").find((text) => text.startsWith(`${name} `));
    return Number(line?.split(" ")[1]);
  }
}

/** What stands before the service and passes on whole answers only, as programs that look
 * for viruses do: a stream never comes to its end. */
export class Holding {
  readonly #server: Server;
  /** Whether it does so now. */
  isHolding = true;

  constructor(service: string) {
    this.#server = createServer((request, response) => {
      const { method = "GET", headers, url = "/" } = request;
      const onward = httpRequest(service + url, { method, headers }, (answer) => {
        if (!this.isHolding) {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
          return;
        }
        const pieces: Buffer[] = [];
        answer.on("data", (piece: Buffer) => pieces.push(piece));
        answer.on("error", () => response.destroy());
        answer.on("end", () => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          response.end(Buffer.concat(pieces));
        });
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      request.pipe(onward);
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Compiles Svelte's components. */
const svelte: Plugin = {
  name: "svelte",
  transform: (code, id) =>
    id.endsWith(".svelte") ? { ...compile(code, { filename: id, generate: "client" }).js, moduleType: "js" } : undefined,
};

/** Serves the pages with a bell, on any host name of the loopback. */
export class Pages {
  #server: Server | undefined;
  #directory = mkdtempSync(join(tmpdir(), "doorbell-pages-"));
  /** Comes with each of them where it is set. */
  policy: string | undefined;
  /** What a test serves besides, by its path. */
  readonly texts = new Map<string, string>();

  /** Those of these names; what they import of the package is what was built of it. */
  static async start(...names: string[]): Promise<Pages> {
    const pages = new Pages();
    const root = resolve(import.meta.dirname, "page");
    const input = names.map((name) => join(root, `${name}.html`));
    const dist = resolve(import.meta.dirname, "../dist");
    await build({
      configFile: false,
      root,
      plugins: [svelte],
      resolve: {
        alias: [
          { find: /^@doorbell\/web$/, replacement: `${dist}/index.js` },
          { find: /^@doorbell\/web\/style\.css$/, replacement: resolve(dist, "../style.css") },
          { find: /^@doorbell\/web\/(\w+)$/, replacement: `${dist}/$1/index.js` },
          { find: /^@doorbell\/web\/(.*\.svelte)$/, replacement: `${dist}/$1` },
        ],
      },
      logLevel: "error",
      build: { outDir: pages.#directory, emptyOutDir: true, rollupOptions: { input } },
      // React as people have it, not the one for development, which takes some times as
      // long: vitest sets NODE_ENV, which vite goes by.
      define: { "process.env.NODE_ENV": '"production"' },
      oxc: { jsx: { development: false } },
    });
    pages.#server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://x").pathname;
      const file = join(pages.#directory, path === "/" ? "index.html" : path);
      const type = { html: "text/html", js: "text/javascript", css: "text/css", txt: "text/plain" };
      const kind = file.split(".").pop() as keyof typeof type;
      const text = pages.texts.get(path) ?? (existsSync(file) && kind in type ? readFileSync(file) : undefined);
      if (text === undefined) {
        response.writeHead(404).end();
        return;
      }
      // A frame in a sandbox is of no origin.
      const headers = { "content-type": type[kind] ?? type.txt, "access-control-allow-origin": "*" };
      if (pages.policy) response.setHeader("content-security-policy", pages.policy);
      response.writeHead(200, headers).end(text);
    });
    await new Promise<void>((done) => pages.#server?.listen(0, "127.0.0.1", done));
    return pages;
  }

  url(host = "127.0.0.1"): string {
    return `http://${host}:${(this.#server?.address() as AddressInfo).port}/`;
  }

  stop(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export async function openBrowser(): Promise<Browser> {
  if (!existsSync(CHROMIUM)) throw new Error("Chromium is missing: run ./test --prepare");
  return await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A tab with the bell of a user. */
export async function openTab(
  context: BrowserContext,
  url: string,
  options: Partial<Omit<InboxOptions, "getToken">> & { token?: string; baseUrl: string },
): Promise<Page> {
  const page = await context.newPage();
  await page.addInitScript((given) => {
    window.options = given;
    // Headless pages are always visible: a test says otherwise.
    let visibility = "visible";
    Object.defineProperty(document, "visibilityState", { get: () => visibility });
    Object.defineProperty(window, "show", {
      value: (visible: boolean) => {
        visibility = visible ? "visible" : "hidden";
        document.dispatchEvent(new Event("visibilitychange"));
      },
    });
  }, options);
  await page.goto(url);
  return page;
}

/** The tab is shown or hidden. */
export async function show(page: Page, visible: boolean): Promise<void> {
  await page.evaluate((shown) => (window as unknown as { show(v: boolean): void }).show(shown), visible);
}

/** What the bell says. */
export async function bell(page: Page): Promise<string> {
  return (await page.locator(".doorbell-bell").getAttribute("aria-label")) ?? "";
}

/** The inbox says that so many are unread, and it is somebody's. */
export async function untilUnread(page: Page, count: number): Promise<void> {
  await until(`${count} are unread`, async () => {
    // Not the list with it, which takes a page as long to hand over as it is long.
    return await page.evaluate((wanted) => {
      const { isLoaded, unreadCount } = window.inbox?.getSnapshot() ?? {};
      return isLoaded && unreadCount === wanted;
    }, count);
  });
}

export async function untilBell(page: Page, says: string, patience?: number): Promise<void> {
  await until(`the bell says ${says}`, async () => (await bell(page)) === says, patience);
}

export async function untilStatus(page: Page, status: string): Promise<void> {
  await until(`the status is ${status}`, async () => {
    return (await page.evaluate(() => window.inbox?.getSnapshot().status)) === status;
  });
}


/** What axe-core finds (https://github.com/dequelabs/axe-core), of any impact, and lists without
 * marks that do not say that they are lists: to VoiceOver in Safari they are none
 * (https://developer.mozilla.org/docs/Web/CSS/list-style#accessibility). */
export async function findings(page: Page): Promise<unknown[]> {
  const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
  await page.evaluate(readFileSync(axe, "utf8"));
  return await page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
    };
    const { violations } = await axe.run();
    const roots = [document, ...[...document.querySelectorAll("*")].flatMap(({ shadowRoot }) => shadowRoot ?? [])];
    const lists = roots.flatMap((root) => [...root.querySelectorAll("ul, ol")]);
    const unsaid = lists.filter((list) => !list.hasAttribute("role") && getComputedStyle(list).listStyleType === "none");
    return [
      ...violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]),
      ...unsaid.map(({ className }) => ["a list without a role", className]),
    ];
  });
}
