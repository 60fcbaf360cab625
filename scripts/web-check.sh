#!/usr/bin/env bash
# Checks the page's source, builds its bundle anew and compares that with the
# one in web/dist. Needs Node and npm: run it as
#
#   scripts/with-node.sh scripts/web-check.sh
set -euo pipefail
cd "$(dirname "$0")/../web"

digest() { find dist -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; }

# npm ci takes its time: only when the lock file changed since the last.
lock=$(sha256sum <package-lock.json)
if [ "$(cat node_modules/.installed 2>/dev/null)" != "$lock" ]; then
	npm ci --no-audit --no-fund --loglevel=error
	printf '%s\n' "$lock" >node_modules/.installed
fi
before=$(digest)
npm run --silent check
npm test --silent
# The client library as others get it: built, and found by its name.
npm run --silent build --prefix client
(cd client && node --input-type=module -e 'import { LiveClient } from "@veltrix/cairn-client"; new LiveClient({ url: "ws://localhost/", WebSocket: class {} })')
npm run --silent build
if ! diff <(printf '%s\n' "$before") <(digest); then
	echo "web-check: web/dist is not what web/src builds (above: < committed, > built); commit the new one" >&2
	exit 1
fi
echo "web-check: web/dist is what web/src builds"
