// What the built package weighs, with all it needs, minified and gzipped; fails above
// its limits. React, Vue and Svelte themselves are the page's own.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const KIB = 1024;
const root = resolve(import.meta.dirname, "..");

async function weigh(entries) {
  const directory = mkdtempSync(join(tmpdir(), "doorbell-size-"));
  const entry = join(directory, "entry.js");
  const lines = entries.map((path) => `export * from ${JSON.stringify(join(root, path))};`);
  writeFileSync(entry, lines.join("\n"));
  const made = await build({
    configFile: false,
    logLevel: "error",
    root,
    build: {
      write: false,
      minify: true,
      modulePreload: false,
      rollupOptions: {
        input: entry,
        preserveEntrySignatures: "strict",
        external: [/^react($|\/)/, /^react-dom($|\/)/, "vue", "svelte"],
      },
    },
    define: { "process.env.NODE_ENV": '"production"' },
  });
  rmSync(directory, { recursive: true });
  const [output] = [made].flat();
  const chunks = output.output.filter((file) => file.type === "chunk");
  return gzipSync(chunks.map((file) => file.code).join(""), { level: 9 }).length;
}

const client = await weigh(["dist/index.js"]);
const onTop = async (entry) => (await weigh(["dist/index.js", `dist/${entry}/index.js`])) - client;
let isTooLarge = false;
for (const [what, bytes, limit] of [
  ["@doorbell/web with all it needs", client, 44],
  ["@doorbell/web/react on top of it", await onTop("react"), 12],
  ["@doorbell/web/element on top of it", await onTop("element"), 24],
  ["@doorbell/web/vue on top of both", (await onTop("vue")) - (await onTop("element")), 1],
  ["@doorbell/web/svelte on top of it", await onTop("svelte"), 1],
  ["standalone.js", await weigh(["dist/standalone.js"]), 68],
]) {
  const kib = bytes / KIB;
  console.log(`${what}: ${kib.toFixed(1)} KiB gzipped (at most ${limit})`);
  isTooLarge ||= kib > limit;
}
process.exit(isTooLarge ? 1 : 0);
