// The first send of the README, as it stands there.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { Service } from "./service.js";

test("the first send of the README rings", async () => {
  const readme = readFileSync(join(import.meta.dirname, "../README.md"), "utf8");
  const code = /```ts\n(\/\/ send\.ts\n[^]*?)```/.exec(readme)?.[1] ?? expect.fail("README.md has no send.ts");
  const made = mkdtempSync(join(import.meta.dirname, "made-"));
  const said = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const service = await Service.start();
  try {
    vi.stubEnv("DOORBELL_URL", service.url);
    vi.stubEnv("DOORBELL_TOKEN", service.token("SENDER"));
    writeFileSync(join(made, "send.ts"), code);
    await import(join(made, "send.ts"));
    expect(said.mock.calls).toEqual([[expect.stringMatching(/^[0-9a-f-]{36}: 1 unread$/)]]);
    const { notifications } = await service.client({ token: service.token("ALICE") }).getRecent();
    expect(notifications).toMatchObject([{ title: "Bob commented", data: { likes: 3 } }]);
  } finally {
    said.mockRestore();
    vi.unstubAllEnvs();
    await service.stop();
    rmSync(made, { recursive: true });
  }
});
