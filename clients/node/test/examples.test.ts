// The examples, as they stand, in front of the real service.

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Doorbell } from "../src/index.js";
import { Service } from "./service.js";

/** A page's way to its backend. */
type Fetch = (path: string, options?: RequestInit) => Promise<Response>;

let service: Service;
let doorbell: Doorbell;
beforeAll(async () => {
  service = await Service.start();
  doorbell = service.client();
  vi.stubEnv("DOORBELL_URL", service.url);
  vi.stubEnv("DOORBELL_TOKEN", service.token("SENDER"));
  vi.stubEnv("DOORBELL_JWT_SECRET", readFileSync(service.secretFile, "utf8"));
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await service.stop();
});

const cookie = "theme=dark; session=session-of-alice";

/** What each of them does. */
async function isABackend(authorId: string, fetch: Fetch): Promise<void> {
  const stranger = await fetch("/doorbell-token");
  expect([stranger.status, await stranger.text()]).toEqual([401, "Sign in first.\n"]);
  const answer = await fetch("/doorbell-token", { headers: { cookie } });
  expect([answer.status, answer.headers.get("cache-control")]).toEqual([200, "no-store"]);
  expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
  const token = await answer.text();
  expect((await doorbell.getUnreadCount({}, { token })).head?.unreadCount).toBe(0);

  const body = JSON.stringify({ id: "c1", postId: "7", authorId });
  const comment = { method: "POST", headers: { "content-type": "application/json" }, body };
  expect((await fetch("/comments", comment)).status).toBe(401);
  const signedIn = { ...comment, headers: { ...comment.headers, cookie } };
  for (let time = 0; time < 2; time += 1) expect((await fetch("/comments", signedIn)).status).toBe(204);
  const author = await service.run("token", "--organization", "acme", "--user", authorId);
  const { notifications } = await doorbell.getRecent({}, { token: author });
  expect(notifications).toMatchObject([
    { type: "comment", title: "alice commented on your post", actionUrl: "/posts/7#comment-c1" },
  ]);
}

test("Express", async () => {
  const { app } = await import("../examples/express.js");
  const server = app.listen(0, "127.0.0.1");
  try {
    await new Promise((done) => server.once("listening", done));
    const { port } = server.address() as AddressInfo;
    await isABackend("express", (path, options) => fetch(`http://127.0.0.1:${port}${path}`, options));
  } finally {
    server.close();
  }
});

test("Fastify", async () => {
  const { app } = await import("../examples/fastify.js");
  try {
    const url = await app.listen({ host: "127.0.0.1", port: 0 });
    await isABackend("fastify", (path, options) => fetch(url + path, options));
  } finally {
    await app.close();
  }
});

test("route handlers of Next.js", async () => {
  const { GET } = await import("../examples/next/app/doorbell-token/route.js");
  const { POST } = await import("../examples/next/app/comments/route.js");
  const routes: Record<string, (request: Request) => Promise<Response>> = {
    "GET /doorbell-token": GET,
    "POST /comments": POST,
  };
  await isABackend("next", async (path, options) => {
    const request = new Request(`http://127.0.0.1${path}`, options);
    const route = routes[`${request.method} ${path}`];
    return (await route?.(request)) ?? expect.fail(path);
  });
});
