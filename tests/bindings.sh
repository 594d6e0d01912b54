#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What the crate nosigbus has of the uAPI header, so that nobody needs bindgen to build it: a
# copy of it, and what bindgen makes of it. "make bindings" puts both where they belong;
# tests/host/bindings.sh sees that they are there.
#
# usage: bindings.sh DIRECTORY
#
# Leaves nosigbus.h and bindings.rs in DIRECTORY, which the toolchain root can see.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$(cd "$1" && pwd -P)
header=$REPO/include/uapi/linux/nosigbus.h
# Without what differs from one bindgen to the next: uapi.rs asserts the layout, the header has the
# comments, and rustfmt is the one that lint has.
{
	printf '// SPDX-License-Identifier: MIT OR Apache-2.0\n\n'
	printf '//! What bindgen makes of nosigbus.h; "make bindings" makes it anew.\n\n'
	inside bindgen "$header" --allowlist-item '(nosigbus|NOSIGBUS)_.*' --use-core \
		--no-layout-tests --no-doc-comments --disable-header-comment --formatter none
} >"$out/bindings.rs"
inside rustfmt --edition 2024 "$out/bindings.rs"
cp "$header" "$out/nosigbus.h"
