// @grpc/grpc-js with @grpc/proto-loader, as many backends have it: what the guide to the API says of
// `data` is so, and its function is the way out.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT, Service } from "./service.js";

interface Client extends grpc.Client {
  sendInApp(
    request: object,
    metadata: grpc.Metadata,
    callback: (error: Error | null, answer: { notification: { id: string } }) => void,
  ): void;
}

let service: Service;
let client: Client;
beforeAll(async () => {
  service = await Service.start();
  const definition = loadSync("doorbell/v1/notifications.proto", { includeDirs: [join(ROOT, "proto")] });
  const loaded = grpc.loadPackageDefinition(definition) as unknown as {
    doorbell: { v1: { NotificationService: new (...words: unknown[]) => Client } };
  };
  const { NotificationService } = loaded.doorbell.v1;
  client = new NotificationService(new URL(service.url).host, grpc.credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await service.stop();
});

/** What is in the inbox, of what was sent with this `data`. */
async function stored(user: string, data: object): Promise<unknown> {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${service.token("SENDER")}`);
  const request = { organizationId: "acme", recipientUserId: user, type: "test", title: "Hello", data };
  await new Promise<void>((done, failed) => {
    client.sendInApp(request, metadata, (error) => (error ? failed(error) : done()));
  });
  const token = await service.run("token", "--organization", "acme", "--user", user);
  const { notifications } = await service.client({ token }).getRecent();
  return notifications[0]?.data;
}

test("a plain object is stored as nothing, without a word", async () => {
  expect(await stored("plain", { likes: 3 })).toEqual({});
});

test("with the function of the guide it is stored as it is", async () => {
  const guide = readFileSync(join(ROOT, "docs/api.md"), "utf8");
  const code = /```js\n(\/\/ struct\.mjs\n[^]*?)```/.exec(guide)?.[1] ?? expect.fail("docs/api.md has no struct.mjs");
  const made = mkdtempSync(join(import.meta.dirname, "made-"));
  const file = join(made, "struct.mjs");
  writeFileSync(file, code);
  try {
    const { struct } = (await import(file)) as { struct(object: object): object };
    const lists = { list: [1, "2", [], {}, null], deep: { a: { b: [{ c: true }] } } };
    const data = { likes: 3, ratio: -0.5, on: false, none: null, text: "ä", ...lists };
    expect(await stored("struct", struct(data))).toEqual(data);
    expect(await stored("empty", struct({}))).toEqual({});
  } finally {
    rmSync(made, { recursive: true });
  }
});
