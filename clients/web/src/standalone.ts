// `@doorbell/web/standalone.js`: the element and the client in one file, for a page that has
// no bundler.

export * from "./index.js";
export * from "./element/index.js";
