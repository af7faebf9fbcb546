// Builds the live page as one file that the binary embeds: page, script and style.

import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

const PAGE = resolve(import.meta.dirname, "../../src/live/page.html");

/** Writes the built script and style into the page. */
function inline(): Plugin {
  return {
    name: "inline",
    enforce: "post",
    generateBundle(_, bundle) {
      const files = Object.values(bundle);
      const page = readFileSync(resolve(import.meta.dirname, "live/index.html"), "utf8");
      const script = files.find((file) => file.type === "chunk")?.code ?? "";
      const style = files.find((file) => file.fileName.endsWith(".css"));
      const css = style?.type === "asset" ? String(style.source) : "";
      const html = page
        .replace(/^.*<script.*\n/m, () => `    <style>${css.trim()}</style>\n`)
        .replace(
          "</body>",
          // A text in the script must not end it.
          () => `<script type="module">${script.trim().replaceAll("</script", "<\\/script")}</script>\n  </body>`,
        );
      for (const name of Object.keys(bundle)) delete bundle[name];
      writeFileSync(process.env["LIVE_PAGE"] ?? PAGE, html);
    },
  };
}

export default defineConfig({
  root: "live",
  plugins: [inline()],
  build: { outDir: "../dist-live", emptyOutDir: true, modulePreload: false, write: true },
});
