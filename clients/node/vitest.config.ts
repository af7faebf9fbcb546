import { resolve } from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { "@doorbell/node": resolve(import.meta.dirname, "src/index.ts") } },
  // A real service is started and killed: it may take its time on a machine that has others to
  // do.
  test: { include: ["test/**/*.test.ts"], testTimeout: 120_000, hookTimeout: 60_000, maxWorkers: 2 },
});
