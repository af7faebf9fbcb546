// What the compiler does not make of the package: the element, with Preact in place of React
// and its style as a text, and the component of Svelte, which its users compile.
//
// For bundlers the element imports what it shares with the rest of the package; for a page
// by itself `standalone.js` has all in one file.

import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "vite";

const root = resolve(import.meta.dirname, "..");
const SHARED = "doorbell:shared/";

/** Leaves what is not the bell's view to the package: those are the modules of `src` itself. */
const leaveShared = {
  name: "leave-shared",
  enforce: "pre",
  async resolveId(source, importer) {
    if (!source.startsWith(".") || !importer) return undefined;
    const path = /\/src\/([^/]+)\.js$/.exec(resolve(importer, "..", source));
    return path ? { id: `${SHARED}${path[1]}.js`, external: true } : undefined;
  },
};

/** The code of an entry, in this format; as small as it can be, or as it is read. */
async function made(entry, format, { minify, plugins }) {
  const output = await build({
    configFile: false,
    logLevel: "error",
    root,
    plugins,
    resolve: {
      alias: [
        { find: /^react\/jsx-runtime$/, replacement: "preact/jsx-runtime" },
        { find: /^react$/, replacement: "preact/compat" },
      ],
    },
    oxc: { jsx: { development: false } },
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      write: false,
      minify,
      modulePreload: false,
      target: "es2022",
      cssMinify: true,
      // Its style uses `light-dark()` as it stands.
      cssTarget: ["chrome123", "firefox125", "safari17.5"],
      rollupOptions: {
        input: join(root, entry),
        preserveEntrySignatures: "strict",
        output: { format, exports: "named" },
      },
    },
  });
  const [{ output: files }] = [output].flat();
  if (files.length !== 1) throw new Error(`${entry} makes ${files.length} files`);
  return files[0].code;
}

for (const [format, directory] of [["es", "dist"], ["cjs", "dist/cjs"]]) {
  const to = join(root, directory, "element");
  for (const file of readdirSync(to)) if (file.endsWith(".js")) rmSync(join(to, file));
  const code = await made("src/element/index.ts", format, { minify: false, plugins: [leaveShared] });
  writeFileSync(join(to, "index.js"), code.replaceAll(SHARED, "../"));
}
const standalone = await made("src/standalone.ts", "es", { minify: true, plugins: [] });
writeFileSync(join(root, "dist/standalone.js"), standalone);
const preact = readFileSync(join(root, "node_modules/preact/LICENSE"), "utf8");
writeFileSync(
  join(root, "dist/licences.txt"),
  `What is built of others into files of this directory.

In standalone.js: @bufbuild/protobuf (Apache-2.0 and BSD-3-Clause) and @connectrpc/connect
(Apache-2.0), see https://www.apache.org/licenses/LICENSE-2.0 and
https://github.com/bufbuild/protobuf-es/blob/main/LICENSE

In standalone.js, element/index.js and cjs/element/index.js: Preact

${preact}`,
);
rmSync(join(root, "dist/cjs/standalone.js"));
for (const file of ["DoorbellInbox.svelte", "DoorbellInbox.svelte.d.ts"]) {
  copyFileSync(join(root, "src/svelte", file), join(root, "dist/svelte", file));
}
