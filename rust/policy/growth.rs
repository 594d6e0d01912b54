// SPDX-License-Identifier: GPL-2.0-only

//! Bounds of the stand-ins of a file.

use super::fault::first_past_eof;
use core::ops::Range;
use kernel::prelude::*;

/// The empty range in a form to which `min()`/`max()` can be applied.
pub(crate) const NO_PAGES: Range<u64> = Range {
    start: u64::MAX,
    end: 0,
};

/// Conservative bounds (page indexes) of the zero pages and shadow pages of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// No stand-in past EOF is below this index.
    pub(crate) lowest: u64,
    /// Whether a stand-in may have been mapped at `lowest`, since a growth last raised `lowest`.
    pub(crate) touched: bool,
    /// Every stand-in past EOF is below this index.
    pub(crate) reach: u64,
    /// All stand-ins for errors inside EOF are in this range.
    pub(crate) failed: Range<u64>,
    /// How many pages past EOF the last growth unmapped, at most.
    pub(crate) ahead: u64,
}

/// The work that a growth makes necessary, in page indexes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Growth {
    /// Pages from `lowest` to EOF. Shadow pages there are dropped, unless they are kept.
    pub(crate) grown_over: Range<u64>,
    /// Range to unmap: `grown_over`, and possibly pages past EOF. (Not unmapped yet.)
    pub(crate) unmapped: Range<u64>,
}

impl Bounds {
    /// No stand-ins.
    pub(crate) const NONE: Self = Self {
        lowest: u64::MAX,
        touched: false,
        reach: 0,
        failed: NO_PAGES,
        ahead: 0,
    };

    /// Moves the part of `failed` that is past EOF into the bounds of ordinary stand-ins. Returns
    /// the first page index past EOF, or `None` if there is no such part.
    pub(crate) fn truncate(&mut self, i_size: u64) -> Option<u64> {
        let end = first_past_eof(i_size);
        if !ends_past_eof(self.failed.end, i_size) {
            return None;
        }
        self.lowest = self.lowest.min(self.failed.start.max(end));
        self.touched = true;
        self.reach = self.reach.max(self.failed.end);
        if self.failed.start < end {
            self.failed.end = end;
        } else {
            self.failed = NO_PAGES;
        }
        Some(end)
    }

    /// Returns what to drop and unmap now that the file has `i_size` bytes; `None` if no ordinary
    /// stand-in can be inside EOF. Call [`Self::apply`] when that is done.
    ///
    /// `lowest` is only a bound: the first stand-in may be far above it. If each growth unmapped
    /// only what it has grown over, each appended page would walk all mappings of the file
    /// (`i_mmap`). So a growth that finds no stand-in at `lowest` unmaps beyond EOF, doubling the
    /// distance each time. In total at most three times the grown range is unmapped. A stand-in at
    /// `lowest` resets the distance.
    pub(crate) fn plan_growth(&mut self, i_size: u64) -> Option<Growth> {
        let end = first_past_eof(i_size);
        if !is_overdue(i_size, self.lowest) {
            return None;
        }
        let grown_over = self.lowest..end;
        self.ahead = if self.touched {
            0
        } else {
            (end - self.lowest).max(self.ahead.saturating_mul(2))
        };
        let stop = end.saturating_add(self.ahead).min(self.reach).max(end);
        Some(Growth {
            unmapped: self.lowest..stop,
            grown_over,
        })
    }

    /// Updates the bounds: `growth` was carried out. `first_shadow` is the index of the first
    /// shadow page past EOF, if there is one.
    pub(crate) fn apply(&mut self, growth: &Growth, first_shadow: Option<u64>) {
        let stop = growth.unmapped.end;
        let first_mapped = if stop < self.reach { stop } else { u64::MAX };
        self.lowest = first_mapped.min(first_shadow.unwrap_or(u64::MAX));
        self.touched = first_shadow == Some(self.lowest);
        if self.lowest == u64::MAX {
            self.reach = 0;
        }
    }
}

/// Returns whether there may be stand-ins inside EOF: the file has grown over `lowest`, and the
/// report has not run yet or never will.
pub(crate) fn is_overdue(i_size: u64, lowest: u64) -> bool {
    lowest < first_past_eof(i_size)
}

/// When `catch_up` may run again, after a run from `begin` to `end`: nine times its duration later.
/// So it runs for at most a tenth of the time.
pub(crate) fn next_catch_up(begin: u64, end: u64) -> u64 {
    end.saturating_add(end.saturating_sub(begin).saturating_mul(9))
}

/// Whether a range with exclusive end `end` reaches past EOF.
pub(crate) fn ends_past_eof(end: u64, i_size: u64) -> bool {
    end > first_past_eof(i_size)
}

#[kunit_tests(nosigbus_policy_growth)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    const PAGE: u64 = PAGE_SIZE as u64;
    const NONE: u64 = u64::MAX;

    /// Stand-ins from `lowest` on, one of which is there, and all below `reach`.
    fn stand_ins(lowest: u64, reach: u64) -> Bounds {
        Bounds {
            lowest,
            touched: true,
            reach,
            ..Bounds::NONE
        }
    }

    #[test]
    fn catching_up_takes_a_tenth_of_the_time() {
        assert_eq!(next_catch_up(100, 100), 100);
        assert_eq!(next_catch_up(100, 200), 1100);
        assert_eq!(next_catch_up(0, u64::MAX / 2), u64::MAX);
        // A clock that goes back.
        assert_eq!(next_catch_up(200, 100), 100);
    }

    #[test]
    fn growth_drops_what_is_inside_now() {
        for (i_size, lowest, grown_over) in [
            (0, 0, None),
            (0, NONE, None),
            (1, 0, Some(0..1)),
            (PAGE, 0, Some(0..1)),
            (PAGE + 1, 0, Some(0..2)),
            (PAGE, 1, None),
            (3 * PAGE, 1, Some(1..3)),
            (3 * PAGE, 7, None),
            (i64::MAX as u64, 5, Some(5..(1 << 63) / PAGE)),
            (i64::MAX as u64, NONE, None),
        ] {
            for reach in [lowest.saturating_add(1), NONE] {
                let mut bounds = stand_ins(lowest, reach);
                assert_eq!(is_overdue(i_size, lowest), grown_over.is_some());
                let growth = bounds.plan_growth(i_size);
                assert_eq!(
                    growth.as_ref().map(|growth| growth.grown_over.clone()),
                    grown_over
                );
                let Some(growth) = growth else {
                    assert_eq!(bounds, stand_ins(lowest, reach));
                    continue;
                };
                // Something is there: nothing more is unmapped.
                assert_eq!(growth.unmapped, growth.grown_over);
                bounds.apply(&growth, None);
                assert!(!is_overdue(i_size, bounds.lowest));
                if growth.unmapped.end >= reach {
                    assert_eq!(bounds, Bounds::NONE);
                } else {
                    assert_eq!(
                        (bounds.lowest, bounds.touched),
                        (growth.unmapped.end, false)
                    );
                }
            }
        }
    }

    #[test]
    fn shadow_pages_that_are_left_are_found() {
        for (reach, first_shadow, lowest) in [
            (3, None, NONE),
            (9, None, 3),
            (9, Some(5), 3),
            (3, Some(5), 5),
            (9, Some(NONE), 3),
        ] {
            let mut bounds = stand_ins(1, reach);
            let growth = bounds.plan_growth(3 * PAGE);
            assert!(growth.is_some());
            let Some(growth) = growth else { return };
            bounds.apply(&growth, first_shadow);
            assert_eq!(bounds.lowest, lowest);
            assert_eq!(bounds.reach, if lowest == NONE { 0 } else { reach });
        }
    }

    /// Grows a file page by page, from 1 page to `pages`. Returns how many growths had to unmap,
    /// and how many pages they unmapped. `first_shadow` returns the first shadow page past EOF.
    /// After each growth, `map` updates the bounds as a fault would.
    fn append(
        bounds: &mut Bounds,
        pages: u64,
        first_shadow: impl Fn(u64) -> Option<u64>,
        map: impl Fn(&mut Bounds, u64),
    ) -> (u64, u64) {
        let (mut times, mut unmapped) = (0, 0);
        for end in 2..=pages {
            if let Some(growth) = bounds.plan_growth(end * PAGE) {
                times += 1;
                unmapped += growth.unmapped.end - growth.unmapped.start;
                bounds.apply(&growth, first_shadow(end));
            }
            map(bounds, end);
        }
        (times, unmapped)
    }

    #[test]
    fn what_is_far_away_is_not_paid_for_by_each_growth() {
        let far = 1 << 40;
        let (times, unmapped) = append(&mut stand_ins(1, far), 100_000, |_| None, |_, _| ());
        assert!(times < 20);
        assert!(unmapped < 300_000);
        // Nothing more is there.
        let (times, unmapped) = append(&mut stand_ins(1, 2), 100_000, |_| None, |_, _| ());
        assert_eq!((times, unmapped), (1, 1));
    }

    #[test]
    fn who_maps_something_has_no_more_unmapped() {
        let map = |gap| {
            move |bounds: &mut Bounds, end| {
                bounds.touched |= end + gap <= bounds.lowest;
                bounds.lowest = bounds.lowest.min(end + gap);
            }
        };
        for gap in [0, 1, 2, 7] {
            let (_, unmapped) = append(&mut stand_ins(1, 1 << 40), 10_000, |_| None, map(gap));
            assert!(unmapped < 30_000);
        }
        // Shadow pages from EOF on, and something far away.
        for reach in [10_001, 1 << 40] {
            let (_, unmapped) = append(&mut stand_ins(1, reach), 10_000, Some, |_, _| ());
            assert_eq!(unmapped, 9_999);
        }
    }

    #[test]
    fn stand_ins_for_errors_that_were_truncated_go_with_growth() {
        // Errors at pages 3 to 6, nothing past EOF: the file has 8 pages, then 2, then 8.
        let mut bounds = Bounds {
            failed: 3..7,
            ..Bounds::NONE
        };
        assert_eq!(bounds.truncate(8 * PAGE), None);
        assert_eq!(bounds.truncate(6 * PAGE + 1), None);
        assert_eq!(bounds.plan_growth(8 * PAGE), None);
        let mut other = bounds.clone();
        assert_eq!(bounds.truncate(2 * PAGE), Some(2));
        assert_eq!(bounds, stand_ins(3, 7));
        assert_eq!(bounds.truncate(2 * PAGE), None);
        assert_eq!(
            bounds.plan_growth(8 * PAGE).map(|growth| growth.grown_over),
            Some(3..8)
        );
        // A truncation in between: page 3 stays, since it was not past EOF.
        assert_eq!(other.truncate(5 * PAGE), Some(5));
        assert_eq!((other.lowest, other.failed.clone()), (5, 3..5));
        assert_eq!(
            other.plan_growth(8 * PAGE).map(|growth| growth.grown_over),
            Some(5..8)
        );
    }
}
