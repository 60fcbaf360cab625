#!/usr/bin/env bash
# Builds the page's bundle anew and compares it with the one that is committed
# in web/dist. Needs Node: scripts/setup.sh node.
#
# Where Node is older than the build asks for (Debian 12 has 18), nothing is
# compared and a line says so; WEB_CHECK=required makes that a failure.
set -euo pipefail
cd "$(dirname "$0")/../web"

version=$(node --version 2>/dev/null | tr -d v || true)
if [ "$(printf '%s\n20.19\n' "${version:-0}" | sort -V | head -n1)" != 20.19 ]; then
	echo "web-check: NOT CHECKED: Node is ${version:-missing}, want 20.19 or newer" >&2
	[ "${WEB_CHECK:-}" != required ]
	exit
fi

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
npm run --silent build
if ! diff <(printf '%s\n' "$before") <(digest); then
	echo "web-check: web/dist is not what web/src builds (above: < committed, > built); commit the new one" >&2
	exit 1
fi
echo "web-check: web/dist is what web/src builds"
