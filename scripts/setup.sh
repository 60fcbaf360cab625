#!/usr/bin/env bash
# Makes sure that a machine has what the checks need, and installs what a root
# on Debian or Ubuntu lacks; elsewhere it says what is missing and how to get
# it. It may be run again and again, and is quick when all is there.
#
#   scripts/setup.sh [go] [race] [browser] [node] [postgres] [redis] [prometheus] [rabbitmq] [shell] [words]
#
#   go       Go as go.mod asks for
#   race     a C compiler, which the race detector's linking needs
#   browser  Chromium and a font, for the tests of the page
#   node     Node and npm, to build the page's bundle
#   postgres PostgreSQL's server, which the tests of the ledger start and stop
#   redis    Redis' server and redis-cli, which the tests of the logs start and stop
#   prometheus Prometheus and promtool, which the tests of dashboards and alerts start and stop
#   rabbitmq RabbitMQ's server, which make bench-broadcast starts, measures and stops
#   shell    curl and jq, which documents use and a test types
#   words    the word lists that the cipher's words are chosen from
set -euo pipefail
cd "$(dirname "$0")/.."

packages=() # Debian packages to install
missing=()  # what to tell whoever can't install them

have() { command -v "$1" >/dev/null 2>&1; }

want() { # want PACKAGE… -- WORDS…: note packages, and what to say without apt
	while [ "$1" != -- ]; do
		packages+=("$1")
		shift
	done
	shift
	missing+=("$*")
}

# at_least HAVE WANT compares dotted versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

go_version() { GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//; s/[ -].*//'; }

need_go() {
	local wants
	wants=$(sed -n 's/^go //p' go.mod)
	# From 1.21 on, Go fetches the release that go.mod asks for by itself.
	if have go && { at_least "$(go_version)" "$wants" || { at_least "$(go_version)" 1.21 && [ "$(go env GOTOOLCHAIN)" != local ]; }; }; then
		return
	fi
	if can_apt; then
		apt_update
		local candidate
		candidate=$(apt-cache policy golang-go | sed -n 's/.*Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
		if [ -n "$candidate" ] && at_least "$candidate" 1.21; then
			want golang-go -- "Go"
			return
		fi
	fi
	echo "setup: Go $wants or newer is needed, have $(have go && go_version || echo none); see https://go.dev/doc/install" >&2
	exit 1
}

need_race() {
	[ "$(go env CGO_ENABLED 2>/dev/null)" = 1 ] && have gcc && return
	have gcc || want gcc libc6-dev -- "a C compiler, for go test -race (Debian: apt-get install gcc libc6-dev)"
}

need_browser() {
	have chromium || have chromium-browser || have google-chrome || have google-chrome-stable ||
		want chromium -- "Chromium or Chrome, for the tests of the page (Debian: apt-get install chromium)"
	{ have fc-list && [ -n "$(fc-list 2>/dev/null | head -n1)" ]; } ||
		want fontconfig fonts-dejavu-core -- "a font (Debian: apt-get install fontconfig fonts-dejavu-core)"
}

# Any Node with npm will do: scripts/with-node.sh gets a newer one by npm.
need_node() { { have node && have npm; } || want nodejs npm -- "Node with npm, to check the page's bundle (Debian: apt-get install nodejs npm)"; }

need_postgres() {
	have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
		want postgresql -- "PostgreSQL's server, for the tests of the ledger (Debian: apt-get install postgresql)"
}

need_redis() {
	{ have redis-server && have redis-cli; } ||
		want redis-server redis-tools -- "Redis 7.0 or newer, for the tests of the logs (Debian: apt-get install redis-server redis-tools)"
}

need_prometheus() {
	{ have prometheus && have promtool; } ||
		want prometheus -- "Prometheus and promtool 2.42 or newer, for the tests of dashboards and alerts (Debian: apt-get install prometheus)"
}

need_rabbitmq() {
	[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || have rabbitmq-server ||
		want rabbitmq-server -- "RabbitMQ's server, for make bench-broadcast (Debian: apt-get install rabbitmq-server)"
}

need_shell() {
	{ have curl && have jq; } || want curl jq -- "curl and jq, which the quick start uses (Debian: apt-get install curl jq)"
}

need_words() {
	[ -d /usr/share/dict/scowl ] || want scowl -- "SCOWL's word lists (Debian: apt-get install scowl)"
}

can_apt() { have apt-get && [ "$(id -u)" = 0 ]; }

updated=
apt_update() {
	[ -n "$updated" ] || apt-get update -qq
	updated=1
}

for what in "${@:-go}"; do
	case $what in
	go | race | browser | node | postgres | redis | prometheus | rabbitmq | shell | words) "need_$what" ;;
	*)
		echo "setup: $what: want go, race, browser, node, postgres, redis, prometheus, rabbitmq, shell or words" >&2
		exit 2
		;;
	esac
done

[ ${#packages[@]} -gt 0 ] || exit 0
if ! can_apt; then
	printf 'setup: missing: %s\n' "${missing[@]}" >&2
	exit 1
fi
echo "setup: installing ${packages[*]}"
apt_update
apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
case " ${packages[*]} " in
*" postgresql "*) # which would make a database and leave it running as a service
	apt_install postgresql-common
	sed -i 's/^#\{0,1\} *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	;;
esac
case " ${packages[*]} " in
*" redis-server "* | *" prometheus "* | *" rabbitmq-server "*) # which would start as services, epmd too: Debian asks this file whether they may
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	;;
esac
apt_install "${packages[@]}"
