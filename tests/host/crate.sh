#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the unit tests of the command and of the compositor. Tests the crate nosigbus as its users
# get it: it builds with each set of features, its documentation has no warnings, its examples
# compile, and it could be published. Runs in the toolchain root. Queries the registry, and uploads
# nothing. Prints TAP; exits 1 if anything failed.
#
# usage: crate.sh

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

target=$REPO/build/crate-test
package=nosigbus-$(sed -n 's/^version = "\(.*\)"/\1/p' "$REPO/samples/Cargo.toml")
cd "$REPO/samples"

# With the same flags for all, so that cargo builds the dependencies once.
in_root() { # VARIABLE=VALUE... COMMAND...
	inside env "CARGO_TARGET_DIR=$target" RUSTFLAGS=-Dwarnings "$@"
}

builds() { # CARGO-OPTION...
	in_root cargo build -p nosigbus "$@"
}

documents() { # CARGO-OPTION...
	in_root RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p nosigbus "$@"
}

# passes CARGO-OPTION...: there are tests, and all of them are run and pass, without a device. Not
# with --release, which checks neither for overflows nor debug_assert!().
passes() {
	local output
	output=$(in_root cargo test "$@" 2>&1) || {
		echo "$output"
		return 1
	}
	grep -qE '^test result: ok\. [1-9][0-9]* passed; 0 failed; 0 ignored' <<<"$output" || {
		echo "$output"
		return 1
	}
}

# Makes the package, and builds it. Allows uncommitted changes, because this test also runs before a
# commit.
publishes() {
	in_root cargo publish --dry-run --allow-dirty -p nosigbus --all-features
}

# The package has all files, as files and not as links, and no others.
package_has() {
	local expected packed
	expected=$(cd "$REPO/samples/nosigbus" && find . -type f -o -type l | sed "s,^\./,$package/," | sort)
	packed=$(tar -tvzf "$target/package/$package.crate" | awk '/^-/ { print $NF }' |
		grep -vE '/(Cargo\.lock|Cargo\.toml\.orig|\.cargo_vcs_info\.json)$' | sort)
	diff <(echo "$expected") <(echo "$packed") &&
		tar -xOzf "$target/package/$package.crate" "$package/nosigbus.h" |
		cmp - "$REPO/include/uapi/linux/nosigbus.h"
}

# PATH has a C compiler, which rustc uses as its linker, and no other tool that a build script could
# call.
builds_without_bindgen() {
	mkdir -p "$target/bin"
	ln -sf /usr/bin/{cc,gcc,ld,rustc} "$target/bin"
	in_root "CARGO_TARGET_DIR=$target/without" "PATH=$target/bin" /usr/bin/cargo build -p nosigbus
}

# licences SPDX-EXPRESSION PATHSPEC...: all files of the repository there are under it.
licences() {
	local others
	others=$(git -C "$REPO" grep -L -F "SPDX-License-Identifier: $1" -- "${@:2}") || true
	[[ -z $others ]] || {
		echo "$others"
		return 1
	}
}

echo "TAP version 13"
echo "1..15"
check "builds without features" builds --no-default-features
check "builds with memmap2" builds --features memmap2
check "builds with all features, all targets" builds --all-features --all-targets
check "documentation without features" documents
check "documentation with all features" documents --all-features
# Those of README.md are among them.
check "the examples in the documentation compile" passes --doc -p nosigbus --all-features
check "copies of shared memory are exact" passes --lib -p nosigbus --all-features
check "the command reads and shows names of others" passes -p nosigbus-cli
check "the compositor's limits hold" passes -p nosigbus-compositor
check "cargo publish --dry-run" publishes
check "the package has all files and the header" package_has
check "builds without bindgen" builds_without_bindgen
check "samples are MIT OR Apache-2.0" licences 'MIT OR Apache-2.0' samples \
	':!*/LICENSE-*' ':!samples/LICENSE-*' ':!samples/nosigbus/nosigbus.h'
check "the uAPI header has MIT as well" licences '(GPL-2.0 WITH Linux-syscall-note) OR MIT' \
	include samples/nosigbus/nosigbus.h
check "the module and its tests are GPL-2.0-only" licences GPL-2.0-only Makefile Kbuild \
	'rust/*.rs' 'rust/*.[ch]' 'tests/*.sh' 'tests/*.py' 'tests/*.[ch]'
exit "$failed"
