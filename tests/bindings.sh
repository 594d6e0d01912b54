#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes the crate nosigbus's copy of the uAPI header and its bindings, so that the crate builds
# without bindgen. "make bindings" puts both into the crate; tests/host/bindings.sh checks that they
# are up to date.
#
# usage: bindings.sh DIRECTORY
#
# Leaves nosigbus.h and bindings.rs in DIRECTORY, which the toolchain root can see.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$(cd "$1" && pwd -P)
header=$REPO/include/uapi/linux/nosigbus.h
# Leaves out what differs between versions of bindgen. uapi.rs asserts the layout, and the header
# has the comments. rustfmt is the same as in lint.
{
	printf '// SPDX-License-Identifier: MIT OR Apache-2.0\n\n'
	printf '//! What bindgen makes of nosigbus.h; "make bindings" makes it anew.\n\n'
	inside bindgen "$header" --allowlist-item '(nosigbus|NOSIGBUS)_.*' --use-core \
		--with-derive-default --no-layout-tests --no-doc-comments --disable-header-comment \
		--formatter none
} >"$out/bindings.rs"
inside rustfmt --edition 2024 "$out/bindings.rs"
cp "$header" "$out/nosigbus.h"
