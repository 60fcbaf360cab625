import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Where `npm run dev` finds a running `cairn up`.
const server = process.env.CAIRN ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [svelte()],
  resolve: { alias: { "@veltrix/cairn-client": fileURLToPath(new URL("client/src/index.ts", import.meta.url)) } },
  assetsInclude: ["**/*.land"],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // a Content-Security-Policy without data: must do
    modulePreload: { polyfill: false }, // the polyfill is an inline script
    chunkSizeWarningLimit: 2000, // MapLibre is one module of 1.1 MB
    reportCompressedSize: false,
  },
  worker: { format: "es" },
  server: { proxy: { "/v1": { target: server, ws: true } } },
  test: { include: ["test/**/*.test.ts", "client/test/*.test.ts"] },
});
