#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make rfc: makes a git tree of the archive's newest linux-source in build/rfc/linux, and applies
# the series for linux-mm (Documentation/rfc) to it, patch by patch (tests/rfc/apply.py). Runs
# checkpatch on each patch, compiles the files that it touches, and leaves the mails in build/rfc.
# DEBUG_KERNEL_VERSION= selects another version. RFC_SOURCE= names a directory with any kernel
# source.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL

series=$REPO/Documentation/rfc/series
out=$REPO/build/rfc
tree=$out/linux
obj=$out/obj
cd "$REPO"
tests/toolchain.sh all >/dev/null
source=${RFC_SOURCE:-$(tests/kernel.sh whole)}
version=$(make -s -C "$source" kernelversion)

# Commits under the caller's name, because the person who sends the series signs it.
git_in_tree() {
	git -C "$tree" -c user.name="${GIT_AUTHOR_NAME-nosigbus}" -c user.email="${GIT_AUTHOR_EMAIL-nosigbus}" \
		-c core.autocrlf=false -c gc.auto=0 "$@"
}

make_tree() {
	rm -rf "$tree"
	mkdir -p "$tree"
	cp -a --reflink=auto "$source/." "$tree"
	git_in_tree init -q -b base
	git_in_tree add -A -f
	git_in_tree commit -q -m "Linux $version"
}

compile() { # WHAT...
	inside make -C "$tree" "O=$obj" CC=gcc-14 "-j$(nproc)" "$@"
}

if [[ $(git_in_tree log -1 --format=%s base 2>/dev/null) == "Linux $version" ]]; then
	git_in_tree checkout -q -f base
	git_in_tree clean -qfdx
else
	step "RFC: making a git tree of Linux $version (a minute or two)"
	logged rfc-tree make_tree || die "no git tree"
fi
git_in_tree checkout -q -B series

step "RFC: configuring it"
configure rfc-config "$obj" "$(fragment tests/kernel/{debug,rfc}.config)" compile
logged rfc-config compile prepare || die "make prepare failed"

# Builds the selftest with its own Makefile, which the build of the kernel does not use.
selftest() {
	mkdir -p "$out/selftest"
	inside make -C "$tree/tools/testing/selftests/mm" CC=gcc-14 "OUTPUT=$out/selftest" "$out/selftest/nosigbus"
}

failed=()
for patch in "$series"/*/; do
	name=$(basename "$patch")
	step "RFC: $name"
	touched=$(inside python3 tests/rfc/apply.py "$tree" "$patch") || die "$name does not apply to Linux $version"
	# shellcheck disable=SC2086 # names of files without spaces
	git_in_tree add -f $touched
	git_in_tree commit -q -F "$patch/message"
	# Ignore warnings that the changed files are full of already.
	ignored=FILE_PATH_CHANGES$([[ ! -e $patch/ignore ]] || sed 's/^/,/' "$patch/ignore")
	logged rfc-checkpatch inside sh -c "cd '$tree' && git -c safe.directory='*' show --format=email |
		perl scripts/checkpatch.pl --strict --no-signoff --ignore=$ignored -" ||
		{ failed+=("checkpatch, $name") && cat "$CURRENT_LOG" >&2; }
	# Not hostfs, which is only for ARCH=um, nor ocfs2, which finds its headers only if
	# configured.
	# shellcheck disable=SC2046
	logged rfc-compile compile W=1 mm/ $(sed -nE '/hostfs|ocfs2/d; s,^((fs|io_uring)/.*)\.c$,\1.o,p' <<<"$touched") ||
		{ failed+=("the compiler, $name") && tail -n 30 "$CURRENT_LOG" >&2; }
	[[ $touched != *selftests/mm/nosigbus.c* ]] || logged rfc-selftest selftest ||
		{ failed+=("the compiler, $name") && tail -n 30 "$CURRENT_LOG" >&2; }
done

step "RFC: the mails"
rm -f "$out"/*.patch
git_in_tree format-patch -q --cover-letter --cover-from-description=subject \
	--description-file="$REPO/Documentation/rfc/cover-letter.txt" \
	-o "$out" --subject-prefix="PATCH RFC mm-unstable" base..series
if ((${#failed[@]})); then
	die "the series has faults: $(printf '%s; ' "${failed[@]}")" "see above"
fi
ls "$out"/*.patch
