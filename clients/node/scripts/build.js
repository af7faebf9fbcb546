// dist/: ES modules, and below cjs/ CommonJS, each with its types.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const dist = join(root, "dist");
const cjs = join(dist, "cjs");

function compile(project) {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", project], { cwd: root, stdio: "inherit" });
}

rmSync(dist, { recursive: true, force: true });
compile("tsconfig.build.json");

// The compiler goes by the package.json beside the sources: so CommonJS is compiled from a copy
// that has one of its own, and sees what its dependencies are to CommonJS.
const type = JSON.stringify({ type: "commonjs" });
const sources = join(dist, "sources");
cpSync(join(root, "src"), sources, { recursive: true });
writeFileSync(join(sources, "package.json"), type);
compile("tsconfig.cjs.json");
rmSync(sources, { recursive: true });
mkdirSync(cjs, { recursive: true });
writeFileSync(join(cjs, "package.json"), type);
