#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs rustfmt with the kernel's settings, clippy and rustdoc with warnings as errors, the kernel's
# checkpatch.pl, and shellcheck. Also checks where unsafe code is, and the format of the man page.
# Reports problems, and changes nothing.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
tests/toolchain.sh all >/dev/null
failed=()
stock=$(tests/kernel.sh stock)
mapfile -t files < <(git ls-files --cached --others --exclude-standard)
((${#files[@]})) || die "git lists no files here" "lint takes a checkout of git"

# of PATTERN...: prints the project's files whose names match.
of() {
	local file pattern
	for file in "${files[@]}"; do
		for pattern; do
			# shellcheck disable=SC2053 # a pattern is meant
			[[ $file == $pattern ]] && printf '%s\n' "$file" && break
		done
	done
}

check() { # TEXT COMMAND...
	step "Lint: $1"
	"${@:2}" || failed+=("$1")
}

mapfile -t rust < <(of 'rust/*.rs')
mapfile -t shell < <(of '*.sh' '.ci/run' 'debian/*.postinst' 'debian/*.postrm' 'debian/*.prerm')
mapfile -t kernel_c < <(of 'rust/*.[ch]' 'include/*.h')
mapfile -t user_c < <(of 'tests/*.[ch]' 'samples/*.[ch]')
mapfile -t samples < <(of 'samples/*.rs')

check "rustfmt, module" inside rustfmt --check --edition 2021 \
	--config-path "$stock/source/.rustfmt.toml" "${rust[@]}"
check "rustfmt, samples" inside rustfmt --check --edition 2024 "${samples[@]}"
# Objects of their own, so that clippy looks at everything each time.
rm -rf build/clippy
check "clippy, module" env OUT="$REPO/build/clippy" tests/build-module.sh stock \
	CLIPPY=1 KRUSTFLAGS=-Dwarnings
check "rustdoc, module" tests/doc.sh
check "clippy, samples" tests/build-samples.sh clippy --release --all-targets --all-features -- -Dwarnings
check "unsafe code" inside python3 tests/unsafe-audit.py --check
check "shellcheck" inside shellcheck -x "${shell[@]}"
checkpatch=(inside perl "$stock/source/scripts/checkpatch.pl" --no-tree --quiet --show-types)
check "checkpatch, module" "${checkpatch[@]}" --file "${kernel_c[@]}" "${rust[@]}"
# User space needs volatile to force an access, and the test harness consists of macros.
check "checkpatch, tests" "${checkpatch[@]}" --ignore VOLATILE,NAKED_SSCANF,COMPLEX_MACRO \
	--file "${user_c[@]}"
check "man page" tests/host/man.sh format

if ((${#failed[@]})); then
	die "lint found something, in:$(printf ' [%s]' "${failed[@]}")" "mend it; rustfmt without --check formats the files"
fi
echo "lint: clean" >&2
