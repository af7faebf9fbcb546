// Tries the package as its users have it: packed, unpacked among other packages, and
// used by what the README shows, in TypeScript with a DOM and without, Node.js, Vite with
// React, Vue and Svelte, and Next.js.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build } from "vite";

const root = resolve(import.meta.dirname, "..");
const consumers = join(root, "consumers");
const made = join(consumers, "made");
const readme = readFileSync(join(root, "README.md"), "utf8");

function run(cwd, program, ...words) {
  try {
    return execFileSync(program, words, {
      cwd,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1", NO_UPDATE_NOTIFIER: "1" },
    });
  } catch (error) {
    throw new Error(`${program} ${words.join(" ")}\n${error.stdout}${error.stderr}`);
  }
}

function write(name, text) {
  mkdirSync(dirname(join(made, name)), { recursive: true });
  writeFileSync(join(made, name), text);
}

function step(what) {
  console.log(`${what} (${Math.round(process.uptime())}s)`);
}

rmSync(made, { recursive: true, force: true });
mkdirSync(made);

step("packed, and unpacked");
const [packed] = JSON.parse(run(root, "npm", "pack", "--json", "--pack-destination", made));
const home = join(consumers, "node_modules/@doorbell/web");
rmSync(home, { recursive: true, force: true });
mkdirSync(home, { recursive: true });
run(made, "tar", "-xzf", packed.filename, "--strip-components=1", "-C", home);
const { dependencies } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
for (const [name, version] of Object.entries(dependencies)) {
  const installed = join(consumers, "node_modules", name, "package.json");
  assert.equal(JSON.parse(readFileSync(installed, "utf8")).version, version, name);
}

step("what the README links to is in it");
const shipped = new Set(packed.files.map(({ path }) => path));
for (const [, link] of readme.matchAll(/\]\(([^)#\s]+)\)/g)) {
  assert.ok(/^https:/.test(link) || shipped.has(link), `README.md leads to ${link}, which is not shipped`);
}

step("Node.js takes it both ways");
for (const file of ["react/index.js", "cjs/react/index.js"]) {
  const text = readFileSync(join(home, "dist", file), "utf8");
  assert.match(text, /^("use strict";\n)?"use client";\n/, `${file} is for browsers`);
}
const use = `
  const inbox = createInbox({ baseUrl: "http://127.0.0.1:9", getToken: () => "" });
  const html = renderToString(createElement(Inbox, { inbox }));
  if (!html.includes("doorbell-bell")) throw new Error(html);
  JSON.stringify(inbox.getSnapshot());
  if (typeof InboxElement !== "function" || "customElements" in globalThis) throw new Error("no element");
  const app = createSSRApp({ setup: () => ({ all: useInbox(inbox) }), render: () => h(DoorbellInbox, { client: inbox }) });
  renderVue(app).then((text) => {
    if (!text.startsWith("<doorbell-inbox")) throw new Error(text);
    if (inbox.getSnapshot().status !== "idle") throw new Error("it began on a server");
  });
  useStore(inbox).subscribe(({ status }) => {
    if (status !== "idle") throw new Error(status);
  })();
`;
const imports = [
  ["createInbox", "@doorbell/web"],
  ["Inbox", "@doorbell/web/react"],
  ["createElement", "react"],
  ["renderToString", "react-dom/server"],
  ["InboxElement", "@doorbell/web/element"],
  ["DoorbellInbox", "@doorbell/web/vue"],
  ["useInbox", "@doorbell/web/vue"],
  ["useInbox", "@doorbell/web/svelte", "useStore"],
  ["createSSRApp", "vue"],
  ["h", "vue"],
  ["renderToString", "vue/server-renderer", "renderVue"],
];
const imported = (name, as, from) => `import { ${name} as ${as} } from "${from}";`;
const required = (name, as, from) => `const { ${name}: ${as} } = require("${from}");`;
const using = (line) => imports.map(([name, from, as = name]) => line(name, as, from)).join("\n") + use;
write("node/use.mjs", using(imported));
write("node/use.cjs", using(required));
for (const file of ["use.mjs", "use.cjs"]) run(join(made, "node"), process.execPath, file);

// The README's snippets that name their file.
const snippets = new Map();
for (const [, text] of readme.matchAll(/```tsx?\n([^]*?)```/g)) {
  const name = /^(?:"use client";\n)?\/\/ (\S+\.tsx?)\b/.exec(text)?.[1];
  assert.ok(name, `a snippet of README.md does not say which file it is:\n${text}`);
  snippets.set(name, text);
}
/** Those that no compiler of TypeScript reads, and that use what a page has. */
const components = new Map();
for (const [, kind, text] of readme.matchAll(/```(vue|svelte)\n([^]*?)```/g)) components.set(kind, text);
const uses = readFileSync(join(consumers, "uses.tsx"), "utf8");
const frameworks = readFileSync(join(consumers, "frameworks.ts"), "utf8");
const component = readFileSync(join(consumers, "component.ts"), "utf8");
// Those of a backend import what has no CommonJS.
const inBrowser = [...snippets].filter(([, text]) => !text.includes('"jose"'));

const NEWEST = join(root, "node_modules/typescript/bin/tsc");
const OLDEST = join(consumers, "node_modules/typescript-5.4/bin/tsc");
const MODES = [
  { name: "bundler", module: "ESNext", moduleResolution: "bundler", type: "module" },
  { name: "nodenext", module: "NodeNext", moduleResolution: "NodeNext", type: "module" },
  { name: "nodenext-commonjs", module: "NodeNext", moduleResolution: "NodeNext", type: "commonjs" },
  { name: "node10", module: "CommonJS", moduleResolution: "node10", type: "commonjs", isOld: true },
];
for (const { name, type, isOld, ...options } of MODES) {
  const files = type === "module" ? [...snippets] : inBrowser;
  for (const [file, text] of files) write(`types/${name}/${file}`, text);
  write(`types/${name}/uses.tsx`, uses);
  write(`types/${name}/frameworks.ts`, frameworks);
  // Svelte has no CommonJS, and no types for it.
  if (type === "module") write(`types/${name}/component.ts`, component);
  write(`types/${name}/package.json`, JSON.stringify({ type }));
  const compilerOptions = {
    ...options,
    target: "ES2022",
    lib: ["ES2022", "DOM", "DOM.Iterable"],
    jsx: "react-jsx",
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    skipDefaultLibCheck: true,
    noEmit: true,
    types: type === "module" ? ["node"] : [],
  };
  write(`types/${name}/tsconfig.json`, JSON.stringify({ compilerOptions }));
  // The newest has no "node10" any more.
  for (const compiler of isOld ? [OLDEST] : [OLDEST, NEWEST]) {
    const version = run(made, process.execPath, compiler, "--version").trim();
    step(`types hold: ${version}, ${name}`);
    run(join(made, "types", name), process.execPath, compiler, "-p", ".");
  }
}

step("types hold without a DOM");
for (const compiler of [OLDEST, NEWEST]) {
  write("types/native/native.ts", snippets.get("native.ts"));
  write("types/native/package.json", JSON.stringify({ type: "module" }));
  const compilerOptions = {
    module: "ESNext",
    moduleResolution: "bundler",
    target: "ES2022",
    lib: ["ES2022"],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    types: [],
  };
  write("types/native/tsconfig.json", JSON.stringify({ compilerOptions }));
  run(join(made, "types/native"), process.execPath, compiler, "-p", ".");
}

/** What Vite makes of a page with this script. */
async function bundled(name, file, text = snippets.get(file), plugins = []) {
  const directory = join(made, name);
  write(`${name}/${file}`, text);
  write(`${name}/index.html`, `<div id="badge"></div><script type="module" src="./${file}"></script>`);
  const warnings = [];
  // That "use client" means nothing to it is right.
  const onwarn = ({ code, message }) => code === "MODULE_LEVEL_DIRECTIVE" || warnings.push(message);
  const rollupOptions = { onwarn };
  const options = { write: false, minify: false, rollupOptions };
  const { output } = await build({ root: directory, configFile: false, logLevel: "error", plugins, build: options });
  assert.deepEqual(warnings, []);
  return output.map((part) => part.code ?? part.source).join("\n");
}
step("Vite builds a page");
const plain = await bundled("vite", "bell.ts");
assert.match(plain, /NotificationService/);
assert.doesNotMatch(plain, /react/i);
// What it does not import is not in it.
assert.doesNotMatch(plain, /requestPermission/);
step("Vite builds a page with React");
assert.match(await bundled("vite-react", "header.tsx"), /doorbell-bell/);

/** The plugin of a framework, from where its users have it. */
const plugin = async (name) => await import(createRequire(join(consumers, "package.json")).resolve(name));
step("Vite builds pages with Vue and with Svelte");
const { default: vue } = await plugin("@vitejs/plugin-vue");
write("vite-vue/Header.vue", components.get("vue"));
const ofVue = `import { createApp } from "vue"; import Header from "./Header.vue"; createApp(Header).mount("#badge");`;
const inVue = await bundled("vite-vue", "main.ts", ofVue, [vue()]);
const { svelte } = await plugin("@sveltejs/vite-plugin-svelte");
write("vite-svelte/Header.svelte", components.get("svelte"));
const ofSvelte = `import { mount } from "svelte"; import Header from "./Header.svelte"; mount(Header, { target: document.body });`;
const inSvelte = await bundled("vite-svelte", "main.ts", ofSvelte, [svelte({ configFile: false })]);
for (const page of [inVue, inSvelte]) {
  assert.match(page, /customElements/);
  // The client is in it once.
  assert.equal(page.match(/getToken failed/g)?.length, 1);
}

step("Next.js builds a site");
for (const [file, text] of snippets) write(`next/app/${file}`, text);
write("next/package.json", JSON.stringify({ private: true }));
write(
  "next/next.config.mjs",
  `export default {
    turbopack: { root: ${JSON.stringify(consumers)} },
    typescript: { ignoreBuildErrors: true },
  };`,
);
write(
  "next/app/layout.jsx",
  `export default ({ children }) => <html lang="en"><body>{children}</body></html>;`,
);
write(
  "next/app/page.jsx",
  `import { Inbox } from "@doorbell/web/react";
  import { Header } from "./header";
  export default () => <><Header userId="alice" /><p>{String(Inbox.$$typeof)}</p></>;`,
);
const next = createRequire(join(consumers, "package.json")).resolve("next/dist/bin/next");
const said = run(join(made, "next"), process.execPath, next, "build");
const html = readFileSync(join(made, "next/.next/server/app/index.html"), "utf8");
assert.match(html, /doorbell-bell/, said);
assert.match(html, /Symbol\(react\.client\.reference\)/, said);

rmSync(made, { recursive: true });
step("done");
