#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds what tests/guest/crate.sh runs, into build/crate, or with MACHINE=arm64 into
# build/crate-arm64: the tests and the examples of the crate nosigbus, and the C samples, which
# include the installed header.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

out=$REPO/build/crate$OF_MACHINE
rm -rf "$out"
mkdir -p "$out"
"$REPO/tests/build-samples.sh" build --release -p nosigbus --all-features --examples
cp "$REPO/$RELEASE"/examples/{compositor,existing,linker} "$out"

step "Crate: its tests"
cd "$REPO/samples"
# shellcheck disable=SC2016 # for the shell inside
logged crate "$REPO/tests/toolchain.sh" run env "${CARGO_SETTINGS[@]}" \
	sh -c '"$@" >"$0"' "$out/cargo.json" cargo test --no-run --release -p nosigbus \
	--all-features --test module --message-format=json-render-diagnostics ||
	die "the tests of the crate did not build" "mend what the compiler complains of"
program=$(sed -n 's/.*"name":"module".*"executable":"\([^"]*\)".*/\1/p' "$out/cargo.json")
[[ -x $program ]] || die "cargo names no executable" "see $out/cargo.json"
cp "$program" "$out/module"
rm "$out/cargo.json"

step "C samples"
make -s -C "$REPO" headers_install "INSTALL_HDR_PATH=$out/usr"
logged c-sample "$REPO/tests/toolchain.sh" run "$GUEST_CC" -std=c11 -Wall -Wextra -pedantic -Werror -O2 \
	-I "$out/usr/include" -o "$out/protect" "$REPO/samples/demo/c/protect.c" ||
	die "the C sample did not build" "mend what the compiler complains of"
# The flags are pkg-config's, as in any other program's build.
wayland=
! on_arm64 || wayland=:/usr/lib/aarch64-linux-gnu/pkgconfig
for program in 'shm-server nosigbus wayland-server' 'shm-client wayland-client'; do
	read -ra packages <<<"${program#* }"
	program=${program%% *}
	# shellcheck disable=SC2016 # for the shell inside
	logged c-sample "$REPO/tests/toolchain.sh" run env "PKG_CONFIG_PATH=$out/usr/share/pkgconfig$wayland" "CC=$GUEST_CC" \
		sh -c 'source=$1 program=$2; shift 2
		$CC -std=c11 -Wall -Wextra -pedantic -Werror -O2 $(pkg-config --cflags "$@") \
			-o "$program" "$source" $(pkg-config --libs "$@")' \
		build "$REPO/samples/demo/c/$program.c" "$out/$program" "${packages[@]}" ||
		die "$program did not build" "mend what the compiler complains of"
done
