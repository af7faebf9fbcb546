// Tries the package as its users have it: packed, unpacked in a clean folder that has what it says
// it needs and nothing else, and used from ES modules, CommonJS and TypeScript.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const made = join(root, "consumers/made");
const modules = join(made, "node_modules");
const home = join(modules, "@doorbell/node");

function run(cwd, program, ...words) {
  try {
    return execFileSync(program, words, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
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
mkdirSync(home, { recursive: true });

step("packed, and unpacked");
const [packed] = JSON.parse(run(root, "npm", "pack", "--json", "--pack-destination", made));
run(made, "tar", "-xzf", packed.filename, "--strip-components=1", "-C", home);
const { dependencies, engines } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
for (const [name, version] of Object.entries(dependencies)) {
  const installed = join(root, "node_modules", name);
  const theirs = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  assert.equal(theirs.version, version, name);
  // Who has the Node.js that we ask for is warned of nothing.
  assert.ok([undefined, engines.node, ">=18"].includes(theirs.engines?.node), `${name}: ${theirs.engines?.node}`);
  mkdirSync(dirname(join(modules, name)), { recursive: true });
  symlinkSync(installed, join(modules, name));
}

step("Node.js takes it both ways");
// A secret of the test's own.
const use = `
  const doorbell = new Doorbell({ url: "http://127.0.0.1:9", token: "x" });
  const key = "0123456789abcdef0123456789abcdef";
  createUserToken({ orgId: "acme", userId: "alice", key }).then((token) => {
    if (token.split(".").length !== 3) throw new Error(token);
    return doorbell.sendInApp({ orgId: "acme", user: "alice" });
  }).then(
    () => { throw new Error("it should have failed"); },
    (error) => {
      if (!(error instanceof DoorbellError) || error.violations[0].field !== "user") throw error;
    },
  );
`;
const names = "createUserToken, Doorbell, DoorbellError";
write("run/use.mjs", `import { ${names} } from "@doorbell/node";${use}`);
write("run/use.cjs", `const { ${names} } = require("@doorbell/node");${use}`);
for (const file of ["use.mjs", "use.cjs"]) run(join(made, "run"), process.execPath, file);

// The README's snippets, each of which names its file.
const snippets = new Map();
for (const [, text] of readFileSync(join(home, "README.md"), "utf8").matchAll(/```ts\n([^]*?)```/g)) {
  const name = /^\/\/ (\S+\.ts)\n/.exec(text)?.[1];
  assert.ok(name, `a snippet of README.md does not say which file it is:\n${text}`);
  snippets.set(name, text);
}
assert.ok(snippets.size >= 5, "README.md has lost its snippets");
const uses = readFileSync(join(root, "consumers/uses.ts"), "utf8");

const NEWEST = join(root, "node_modules/typescript/bin/tsc");
const OLDEST = join(root, "node_modules/typescript-5.4/bin/tsc");
const MODES = [
  { name: "bundler", module: "ESNext", moduleResolution: "bundler", type: "module" },
  { name: "nodenext", module: "NodeNext", moduleResolution: "NodeNext", type: "module" },
  { name: "node16", module: "Node16", moduleResolution: "Node16", type: "module" },
  { name: "nodenext-commonjs", module: "NodeNext", moduleResolution: "NodeNext", type: "commonjs" },
  { name: "node16-commonjs", module: "Node16", moduleResolution: "Node16", type: "commonjs" },
  { name: "node10", module: "CommonJS", moduleResolution: "node10", type: "commonjs", isOld: true },
];
for (const { name, type, isOld, ...options } of MODES) {
  // Only modules wait at their top.
  if (type === "module") for (const [file, text] of snippets) write(`types/${name}/${file}`, text);
  write(`types/${name}/uses.ts`, uses);
  write(`types/${name}/package.json`, JSON.stringify({ type }));
  const compilerOptions = {
    ...options,
    target: "ES2022",
    lib: ["ES2022"],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    skipDefaultLibCheck: true,
    noEmit: true,
    typeRoots: [join(root, "node_modules/@types")],
    types: ["node"],
  };
  write(`types/${name}/tsconfig.json`, JSON.stringify({ compilerOptions }));
  // The newest has no "node10" any more.
  for (const compiler of isOld ? [OLDEST] : [OLDEST, NEWEST]) {
    const version = run(made, process.execPath, compiler, "--version").trim();
    step(`types hold: ${version}, ${name}`);
    // Before 5.7 it does not know what the types of protobuf-es are written in.
    const flags = compiler === OLDEST ? ["--skipLibCheck"] : [];
    run(join(made, "types", name), process.execPath, compiler, "-p", ".", ...flags);
  }
}

step("an editor shows what the proto says");
const ts = (await import("typescript-5.4")).default;
const file = join(made, "types/nodenext/uses.ts");
const program = ts.createProgram([file], { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022 });
const checker = program.getTypeChecker();
const docs = new Map();
(function visit(node) {
  if (ts.isIdentifier(node)) {
    const said = checker.getSymbolAtLocation(node)?.getDocumentationComment(checker) ?? [];
    docs.set(node.text, ts.displayPartsToString(said) || docs.get(node.text));
  }
  ts.forEachChild(node, visit);
})(program.getSourceFile(file));
assert.match(docs.get("sendInApp"), /^Puts a notification into one user's inbox/);
assert.match(docs.get("entityType"), /^The kind of the thing it is about/);
assert.match(docs.get("unseenCount"), /^How many of them were created/);

rmSync(made, { recursive: true });
step("done");
