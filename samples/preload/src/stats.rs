// SPDX-License-Identifier: GPL-2.0-only

use std::ops::Range;

pub fn replacing<R>(_range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    call()
}
