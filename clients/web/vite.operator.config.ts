// Builds the operators' page as the files that the binary embeds. No script or style of it
// is inline, so its policy names none.

import { resolve } from "node:path";
import { defineConfig } from "vite";

const OUT = process.env["OPERATOR_PAGE"] ?? resolve(import.meta.dirname, "../../src/operator_page");

export default defineConfig({
  root: "operator",
  base: "/operator/",
  build: {
    outDir: OUT,
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: { output: { entryFileNames: "page.js", assetFileNames: "page[extname]" } },
  },
});
