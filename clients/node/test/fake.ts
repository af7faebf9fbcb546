// A service that fails as it is told, over real HTTP/2; and a way to a real one that can be cut.

import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from "node:http2";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { NotificationService } from "../src/gen/doorbell/v1/notifications_pb.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";

/** What a call came with. */
export interface Attempt {
  readonly at: number;
  readonly key: string | undefined;
  readonly authorization: string | null;
  readonly deadline: string | null;
}

/** An error as the service makes them. */
export function refusal(code: Code, reason: string, retryAfterMs?: number): ConnectError {
  const details = [
    { desc: ErrorInfoSchema, value: { domain: "doorbell.v1", reason } },
    ...(retryAfterMs === undefined
      ? []
      : [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryAfterMs) } }]),
  ];
  return new ConnectError("not now", code, undefined, details);
}

/** Answers each `SendInApp` and `UpdateInApp` with what `answer` says of its number, counted from 0. */
export class Fake {
  readonly attempts: Attempt[] = [];
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #server: Http2Server;

  private constructor(answer: (number: number) => void | Promise<void>) {
    type Keyed = { idempotencyKey?: string | undefined };
    const take = async ({ idempotencyKey: key }: Keyed, { requestHeader }: HandlerContext) => {
      const authorization = requestHeader.get("authorization");
      const deadline = requestHeader.get("grpc-timeout");
      await answer(this.attempts.push({ at: Date.now(), key, authorization, deadline }) - 1);
      return { notification: { id: "done" } };
    };
    const service: Partial<ServiceImpl<typeof NotificationService>> = { sendInApp: take, updateInApp: take };
    const routes = connectNodeAdapter({ routes: (router) => void router.service(NotificationService, service) });
    this.#server = createHttp2Server(routes);
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
    });
  }

  static async start(answer: (number: number) => void | Promise<void>): Promise<Fake> {
    const fake = new Fake(answer);
    await new Promise<void>((done) => fake.#server.listen(0, "127.0.0.1", done));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    for (const session of this.#sessions) session.destroy();
    this.#server.close();
  }
}

/** What lies between a client and a service. */
export class Way {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #far = new Set<Socket>();
  #connections = 0;
  #swallowed = 0;

  private constructor(port: number) {
    this.#server = createServer((near) => {
      this.#connections += 1;
      const far = connect(port, "127.0.0.1");
      this.#far.add(far);
      far.on("close", () => this.#far.delete(far));
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => (this.#sockets.delete(socket), near.destroy(), far.destroy()));
      }
      near.pipe(far);
      far.pipe(near);
    });
  }

  static async to(url: string): Promise<Way> {
    const way = new Way(Number(new URL(url).port));
    await new Promise<void>((done) => way.#server.listen(0, "127.0.0.1", done));
    return way;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many connections were made on it. */
  get connections(): number {
    return this.#connections;
  }

  /** How many bytes were swallowed. */
  get swallowed(): number {
    return this.#swallowed;
  }

  /** Nothing passes any more on the connections that there are, and nobody is told. */
  swallow(): void {
    this.#swallow(this.#sockets);
  }

  /** Nothing passes from the service any more; what is asked of it still does. */
  swallowAnswers(): void {
    this.#swallow(this.#far);
  }

  #swallow(sockets: Set<Socket>): void {
    for (const socket of sockets) {
      socket.unpipe().on("data", (bytes: Buffer) => (this.#swallowed += bytes.length));
      socket.resume();
    }
  }

  /** Those connections end, in order. */
  end(): void {
    for (const socket of this.#sockets) socket.end();
  }

  stop(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
