#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make doc: the module's documentation by rustdoc, private items too, in build/doc. Every warning of
# rustdoc is an error.
#
# Kbuild has no such target for modules outside the tree. So this script compiles the module for the
# stock kernel, takes the arguments of Kbuild's rustc command, and passes them to rustdoc.
#
# usage: doc.sh

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$REPO/build/doc
tests=$REPO/tests
"$tests/build-module.sh" stock
line=$(sed -n 's/^savedcmd_rust\/nosigbus\.o := //p' "$REPO/build/stock/rust/.nosigbus.o.cmd")
[[ $line == *" rustc "* ]] || die "build/stock has no command of rustc's" "rm -r build/stock, and try again"
mapfile -t variables < <(xargs -n 1 <<<"${line%% rustc *}")
mapfile -t options < <(xargs -n 1 <<<"${line#* rustc }" | sed "/^--emit=/d; s,^--out-dir\$,&=$out,; /^rust\/\$/d")
step "Documentation of the module: rustdoc"
rm -rf "$out"
mkdir -p "$out"
cd "$REPO/build/stock"
logged doc "$tests/toolchain.sh" run env RUSTC_BOOTSTRAP=1 \
	"NOSIGBUS_BINDINGS=$REPO/build/stock/rust/bindings_generated.rs" "${variables[@]}" rustdoc \
	"${options[@]}" --crate-name nosigbus --document-private-items -Dwarnings -Drustdoc::all \
	-Arustdoc::private_intra_doc_links ||
	die "rustdoc complains" "mend what it complains of"
note "build/doc/nosigbus/index.html"
