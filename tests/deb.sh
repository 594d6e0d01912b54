#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make deb: builds the Debian packages from the files that git knows, in a copy of them in
# build/deb, and checks them with lintian. Prints the packages.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from those of the package.
unset MAKEFLAGS MFLAGS MAKELEVEL

root=$("$REPO/tests/toolchain.sh" packaging)
out=$REPO/build/deb
source=$out/source

in_root() {
	"$REPO/tests/toolchain.sh" run --root "$root" "$@"
}

rm -rf "$out"
mkdir -p "$source"
cd "$REPO"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -a --parents -t "$source"
cd "$source"
step "Packages: building them (dpkg-buildpackage)"
logged deb in_root dpkg-buildpackage --unsigned-source --unsigned-changes --build=full ||
	die "the packages did not build" "see the log; if it is the network, run this again"
step "Packages: lintian"
logged lintian in_root lintian --allow-root --tag-display-limit 0 --fail-on error,warning "$out"/*.changes ||
	die "lintian has found something" "mend it, or argue an override in debian/"
sed 's/^/    /' "$CURRENT_LOG" >&2
printf '%s\n' "$out"/*.deb
