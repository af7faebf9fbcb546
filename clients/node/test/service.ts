// The real binary, started, killed, and started again on the same data.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { Doorbell, type DoorbellOptions } from "../src/index.js";

export const ROOT = resolve(import.meta.dirname, "../../..");
const BINARY = process.env["DOORBELL_BINARY"] ?? join(ROOT, "target/debug/doorbell");

/** Waits until `look` finds something, and answers with it. */
export async function until<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = Date.now() + 45_000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`it did not come about: ${what}`);
    await new Promise((wait) => setTimeout(wait, 20));
  }
}

/** A loopback port that is free now, below those that the system gives out. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const isFree = await new Promise<boolean>((answer) => {
      const probe = createServer();
      probe.once("error", () => answer(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => answer(true)));
    });
    if (isFree) return port;
  }
}

/** `doorbell dev` in a directory of its own. */
export class Service {
  readonly directory = mkdtempSync(join(tmpdir(), "doorbell-node-"));
  readonly #settings: Record<string, string>;
  readonly #clients: Doorbell[] = [];
  #child: ChildProcess | undefined;
  #said = "";
  #port = 0;

  private constructor(settings: Record<string, string>) {
    this.#settings = settings;
  }

  /** Settings are by their names without `DOORBELL_`. */
  static async start(settings: Record<string, string> = {}): Promise<Service> {
    if (!existsSync(BINARY)) throw new Error(`there is no ${BINARY}: run cargo build, or set DOORBELL_BINARY`);
    const service = new Service(settings);
    service.#port = await freePort();
    await service.restart();
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Where the secret that signs tokens is. */
  get secretFile(): string {
    return join(this.directory, "jwt-secret");
  }

  /** A token that it printed: `SENDER`, `ALICE` (of acme), `BOB` (of globex). */
  token(name: string): string {
    return new RegExp(`${name}='([^']+)'`).exec(this.#said)?.[1] ?? "";
  }

  /** A client with the sender's token. */
  client(options: DoorbellOptions = {}): Doorbell {
    const client = new Doorbell({ url: this.url, token: this.token("SENDER"), ...options });
    this.#clients.push(client);
    return client;
  }

  async restart(): Promise<void> {
    this.#said = "";
    const settings = Object.entries(this.#settings).map(([name, value]) => [`DOORBELL_${name}`, value]);
    this.#child = spawn(BINARY, ["dev"], {
      env: {
        DOORBELL_DATA_DIR: this.directory,
        DOORBELL_LISTEN: `127.0.0.1:${this.#port}`,
        DOORBELL_METRICS_LISTEN: `127.0.0.1:${await freePort()}`,
        ...Object.fromEntries(settings),
      },
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (text: Buffer) => (this.#said += text.toString()));
    await until("what the service prints", () => this.token("BOB") !== "");
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
  }

  /** Runs a command of the same binary on the same data. */
  async run(...words: string[]): Promise<string> {
    const env = { DOORBELL_DATA_DIR: this.directory };
    const { stdout } = await promisify(execFile)(BINARY, words, { env });
    return stdout.trim();
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
