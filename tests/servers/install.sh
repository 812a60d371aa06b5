#!/bin/sh
# Installs Debian's packages of the servers that the tests run, if they are not
# there. The tests start their own servers on their own directories. So what
# would start with the installation is told not to.
set -eu

missing=
command -v git >/dev/null || missing="$missing git"
command -v redis-server >/dev/null && command -v redis-check-aof >/dev/null || missing="$missing redis-server"
ls /usr/lib/postgresql/*/bin/pg_amcheck >/dev/null 2>&1 && ls /usr/share/postgresql/*/extension/amcheck.control >/dev/null 2>&1 ||
	missing="$missing postgresql postgresql-contrib"
test -n "$missing" || exit 0

echo "installing$missing; no server is started"
policy=/usr/sbin/policy-rc.d
if ! test -e "$policy"; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
fi
apt-get update -q
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
