#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests the uAPI header as a program uses it. It compiles on its own, as the strictest C and as C++,
# 32-bit and 64-bit. "make headers_install" puts it where it says, and pkg-config finds it there.
# Prints TAP; exits 1 if anything failed.
#
# usage: header.sh

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

# Outside of the tree, and visible inside the toolchain root.
mkdir -p "$CACHE/tmp"
work=$(mktemp -d "$CACHE/tmp/header.XXXXXX")
trap 'rm -rf "$work"' EXIT

strict=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only)
header=(-I "$REPO/include/uapi" "$work/header.c")
printf '#include <linux/nosigbus.h>\n' >"$work/once"
cat "$work/once" "$work/once" >"$work/header.c"
cp "$work/header.c" "$work/header.cc"

# A program that uses everything in the installed header.
cat >"$work/program.c" <<'EOF'
#include <linux/nosigbus.h>

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(void)
{
	struct nosigbus_enable enable;
	struct nosigbus_disable disable;
	struct nosigbus_query query;
	struct nosigbus_status status;
	struct nosigbus_event event;

	memset(&event, 0, sizeof(event));
	event.kind = NOSIGBUS_EVENT_OVERFLOW;
	memset(&query, 0, sizeof(query));
	query.features = NOSIGBUS_FEATURE_PRIVATE | NOSIGBUS_FEATURE_SHARED_READ |
		NOSIGBUS_FEATURE_SHARED_WRITE | NOSIGBUS_FEATURE_DISABLE | NOSIGBUS_FEATURE_STATUS |
		NOSIGBUS_FEATURE_EVENTS;
	memset(&enable, 0, sizeof(enable));
	enable.flags = NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD | NOSIGBUS_EVENTS;
	memset(&disable, 0, sizeof(disable));
	memset(&status, 0, sizeof(status));
	status.request = NOSIGBUS_CLEAR_ERROR;
	status.error_flags = NOSIGBUS_ERROR_DEDUCED;
	/* There is no such file descriptor. */
	if (!event.kind || !ioctl(-1, NOSIGBUS_QUERY, &query) || !ioctl(-1, NOSIGBUS_ENABLE, &enable) ||
	    !ioctl(-1, NOSIGBUS_DISABLE, &disable) || !ioctl(-1, NOSIGBUS_STATUS, &status))
		return 1;
	printf("%x %x %x %x %u %u\n", (unsigned int)NOSIGBUS_QUERY, (unsigned int)NOSIGBUS_ENABLE,
	       (unsigned int)NOSIGBUS_DISABLE, (unsigned int)NOSIGBUS_STATUS,
	       (unsigned int)query.features, NOSIGBUS_VERSION);
	return 0;
}
EOF

installed() { # PREFIX
	cmp "$REPO/include/uapi/linux/nosigbus.h" "$1/include/linux/nosigbus.h" &&
		[[ $(stat -c %a "$1/include/linux/nosigbus.h") == 644 ]] &&
		[[ $(stat -c %a "$1/share/pkgconfig/nosigbus.pc") == 644 ]] &&
		[[ $(find "$1" -type f | wc -l) == 2 ]]
}

install_to() { # VARIABLE VALUE PREFIX
	make -s -C "$REPO" headers_install "$1=$2" && installed "$3"
}

build() { # PROGRAM OPTION...
	inside gcc-14 -Wall -Wextra -Werror -isystem "$work/usr/include" "${@:2}" \
		-o "$work/$1" "$work/program.c"
}

# pkg_config OPTION...: asks about the header that is installed outside of the system's directories.
pkg_config() {
	inside env "PKG_CONFIG_PATH=$work/usr/share/pkgconfig" pkg-config "$@" nosigbus
}

pkg_config_finds_it() {
	local flags=()
	read -ra flags < <(pkg_config --cflags)
	[[ -z $(pkg_config --libs) ]] &&
		[[ $(pkg_config --modversion) == $(sed -n 's/^#define NOSIGBUS_VERSION\t*//p' \
			"$REPO/include/uapi/linux/nosigbus.h") ]] &&
		inside gcc-14 -Wall -Wextra -Werror "${flags[@]}" -fsyntax-only "$work/program.c"
}

says() {
	[[ $(inside "$work/$1") == "8040bb00 4030bb01 4020bb02 c080bb03 63 1" ]]
}

echo "TAP version 13"
echo "1..17"
for bits in 32 64; do
	check "C89, $bits-bit" inside gcc-14 "-m$bits" -std=c89 "${strict[@]}" "${header[@]}"
	check "C23, $bits-bit" inside gcc-14 "-m$bits" -std=c23 "${strict[@]}" "${header[@]}"
	check "C89, clang, $bits-bit" inside clang-19 "-m$bits" -std=c89 "${strict[@]}" "${header[@]}"
	for standard in 98 23; do
		check "C++$standard, $bits-bit" inside clang++-19 "-m$bits" "-std=c++$standard" \
			"${strict[@]}" -I "$REPO/include/uapi" "$work/header.cc"
	done
done
check "headers_install with INSTALL_HDR_PATH" install_to INSTALL_HDR_PATH "$work/usr" "$work/usr"
check "headers_install with DESTDIR" install_to DESTDIR "$work/dest" "$work/dest/usr/local"
check "pkg-config finds it" pkg_config_finds_it
check "a program outside of the tree, 64-bit" build program64 -m64
check "a program outside of the tree, 32-bit" build program32 -m32
check "a C89 program outside of the tree" build program89 -std=c89 -Wpedantic -D_DEFAULT_SOURCE
check "it has the same numbers" says program64
exit "$failed"
