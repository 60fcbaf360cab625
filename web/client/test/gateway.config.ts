// Tests of the client against a running gateway, which web/e2e starts.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["client/test/gateway/*.test.ts"], testTimeout: 150_000 },
});
