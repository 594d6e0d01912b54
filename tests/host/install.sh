#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests "make install" and "make uninstall", in a copy of the source, for the stock kernel. Prints
# TAP.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

kernel=$("$REPO/tests/kernel.sh" stock)
release=$(cat "$kernel/release")
work=$REPO/build/install-test
number=0

result() { # STATUS NAME
	number=$((number + 1))
	if (($1 != 0)); then
		(installed && cat "$work/log") | sed 's/^/# /'
		printf 'not '
	fi
	echo "ok $number $2"
}

# in_copy ARGUMENT...: make in the copy.
in_copy() {
	"$REPO/tests/toolchain.sh" run env TOOLCHAIN=host make -C "$work/source" KDIR="$kernel/build" \
		"${args[@]}" "KERNELRELEASE=$release" "DESTDIR=$work/dest" prefix=/opt "$@" >"$work/log" 2>&1
}

# The files below DESTDIR, with their modes, but for the lists of depmod.
installed() {
	(cd "$work/dest" && find . -type f -not -name 'modules.*' -printf '%m %P\n' | sort -k2)
}

wanted() {
	cat <<-EOF
		644 lib/modules/$release/updates/nosigbus.ko.xz
		755 opt/bin/nosigbus
		644 opt/include/linux/nosigbus.h
		644 opt/lib/libnosigbus_preload.so
		644 opt/lib/modules-load.d/nosigbus.conf
		644 opt/lib/udev/rules.d/60-nosigbus.rules
		644 opt/share/doc/nosigbus/examples/compositor.conf
		644 opt/share/man/man1/nosigbus.1
		644 opt/share/man/man4/nosigbus.4
		644 opt/share/pkgconfig/nosigbus.pc
	EOF
}

echo "TAP version 13"
echo "1..2"
rm -rf "$work/source" "$work/dest"
mkdir -p "$work/source"
git -C "$REPO" ls-files -z --cached --others --exclude-standard |
	(cd "$REPO" && xargs -0 cp --parents -t "$work/source" 2>/dev/null) || true
read -ra args <"$kernel/make-args"

status=0
in_copy install || status=1
[[ $(installed) == "$(wanted)" ]] || status=1
result "$status" "make install puts all below one prefix"
status=0
in_copy uninstall || status=1
[[ -z $(installed) ]] || status=1
result "$status" "make uninstall removes it"
