// SPDX-License-Identifier: GPL-2.0-only

//! `NOSIGBUS_ENABLE`.

use super::{
    events::Source,
    mapping::Mapping,
    mapping_state::{
        MappingState, //
        Options,
        Origin,
    },
    registry::Listed,
    vmas::for_each_vma,
    Opened,
    Shared, //
};
use crate::{
    abstractions::{
        eventfd::EventFd,
        mm::MmapWriteGuard,
        vm_operations::Prepared,
        vma::LockedVma, //
    },
    policy::{
        eligibility::{
            class,
            Facts,
            FileFacts,
            Refusal, //
        },
        range::PageRange, //
    },
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

fn facts(vma: &LockedVma<'_>) -> Facts {
    Facts {
        opted_in: vma.is_wrapped::<Mapping>(),
        file: vma.file().map(|file| FileFacts {
            regular: file.is_regular(),
            kernel_internal: file.is_kernel_internal(),
            dax: file.is_dax(),
            page_cache: file.has_page_cache(),
        }),
        special: vma.is_special(),
        shared: vma.is_shared(),
        writable: vma.is_writable(),
        locked: vma.is_locked_in_memory(),
        userfaultfd: vma.has_userfaultfd(),
    }
}

fn errno(refusal: Refusal) -> Error {
    match refusal {
        Refusal::OptedIn => EBUSY,
        Refusal::Unsupported => EOPNOTSUPP,
    }
}

/// The arguments of `NOSIGBUS_ENABLE`, with the flags decoded.
pub(super) struct Request {
    /// In bytes, as user space has passed them.
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) record_errors: bool,
    /// The eventfd; `None` without `NOSIGBUS_EVENTFD`.
    pub(super) eventfd: Option<Arc<EventFd>>,
    /// The cookie of the records that read(2) returns; `None` without `NOSIGBUS_EVENTS`.
    pub(super) cookie: Option<u64>,
}

/// Opts in all VMAs of a range of `mm`, or none. On error, KSM pages of the range may have been
/// unmerged.
///
/// # Context
///
/// In the ioctl, without locks. Takes the mmap lock for write; sleeps.
///
/// # Errors
///
/// `NOSIGBUS_ENABLE` in `include/uapi/linux/nosigbus.h` lists them.
pub(super) fn enable(
    mm: &MmWithUser,
    request: &Request,
    opened: &Opened,
    shared: &Arc<Shared>,
) -> Result {
    let range = PageRange::new(request.addr, request.len)?;
    let mut guard = MmapWriteGuard::lock_killable(mm)?;

    let mut prepared = KVVec::new();
    for_each_vma(&mut guard, &range, |vma| {
        let class = class(&facts(&vma)).map_err(errno)?;
        let file = vma.file().ok_or(EOPNOTSUPP)?;
        let options = Options {
            record_errors: request.record_errors,
            eventfd: request.eventfd.clone(),
            source: match request.cookie {
                Some(cookie) => Some(Source::new(opened.events.clone(), cookie)?),
                None => None,
            },
        };
        let origin = Origin::new(&vma, &file);
        let state = MappingState::new(class, options, origin)?;
        let shadows = state.shadows.clone();
        let mapping = Mapping::new(Listed::new(shared, &opened.mappings, state)?);
        prepared.push(Prepared::new(vma, mapping, shadows)?, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    })?;

    for prepared in prepared {
        prepared.install();
    }
    Ok(())
}

#[kunit_tests(nosigbus_enable)]
mod tests {
    use super::{
        super::disable::disable,
        *, //
    };
    use crate::abstractions::user_memory::{
        read_byte,
        unmap,
        write_byte,
        Access,
        Sharing, //
        ShmemFile,
    };
    use kernel::page::PAGE_SIZE;

    const PAGE: u64 = PAGE_SIZE as u64;

    /// Opts in `pages` pages from `addr` of the test's own address space.
    fn enable_pages(addr: usize, pages: u64) -> Result {
        let shared = Shared::new()?;
        let task = current!();
        let request = Request {
            addr: addr as u64,
            len: pages * PAGE,
            record_errors: false,
            eventfd: None,
            cookie: None,
        };
        enable(task.mm().ok_or(EINVAL)?, &request, &Opened::new()?, &shared)
    }

    fn disable_pages(addr: usize, pages: u64) -> Result {
        let task = current!();
        disable(task.mm().ok_or(EINVAL)?, addr as u64, pages * PAGE)
    }

    #[test]
    fn past_eof_reads_zero() -> Result {
        for sharing in [Sharing::Shared, Sharing::Private] {
            let file = ShmemFile::new(PAGE_SIZE)?;
            let addr = file.map(3 * PAGE_SIZE, sharing, Access::Read)?;

            assert_eq!(read_byte(addr), Ok(0));
            assert_eq!(read_byte(addr + PAGE_SIZE), Err(EFAULT));
            enable_pages(addr, 3)?;
            assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
            assert_eq!(read_byte(addr + 2 * PAGE_SIZE), Ok(0));
            unmap(addr, 3 * PAGE_SIZE)?;
        }
        Ok(())
    }

    #[test]
    fn private_pages_past_eof_can_be_written() -> Result {
        let file = ShmemFile::new(0)?;
        let addr = file.map(2 * PAGE_SIZE, Sharing::Private, Access::ReadWrite)?;

        enable_pages(addr, 2)?;
        assert_eq!(write_byte(addr + 1, 7), Ok(()));
        assert_eq!(read_byte(addr), Ok(0));
        assert_eq!(read_byte(addr + 1), Ok(7));
        // Write after read: the zero page is replaced.
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
        assert_eq!(write_byte(addr + PAGE_SIZE, 9), Ok(()));
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(9));
        unmap(addr, 2 * PAGE_SIZE)
    }

    #[test]
    fn writable_mappings_of_the_file_stay_counted() -> Result {
        let file = ShmemFile::new(PAGE_SIZE)?;
        assert_eq!(file.writable_mappings(), 0);
        let addr = file.map(2 * PAGE_SIZE, Sharing::Shared, Access::Read)?;
        assert_eq!(file.writable_mappings(), 1);
        enable_pages(addr, 2)?;
        assert_eq!(file.writable_mappings(), 0);
        unmap(addr, PAGE_SIZE)?;
        assert_eq!(file.writable_mappings(), 0);
        unmap(addr + PAGE_SIZE, PAGE_SIZE)?;
        assert_eq!(file.writable_mappings(), 0);

        let addr = file.map(PAGE_SIZE, Sharing::Private, Access::ReadWrite)?;
        enable_pages(addr, 1)?;
        assert_eq!(file.writable_mappings(), 0);
        unmap(addr, PAGE_SIZE)
    }

    #[test]
    fn refusals_change_nothing() -> Result {
        let file = ShmemFile::new(0)?;
        let addr = file.map(3 * PAGE_SIZE, Sharing::Shared, Access::Read)?;

        assert_eq!(enable_pages(addr, 2), Err(EINVAL));
        assert_eq!(enable_pages(addr + PAGE_SIZE, 2), Err(EINVAL));
        assert_eq!(read_byte(addr), Err(EFAULT));
        assert_eq!(file.writable_mappings(), 1);

        enable_pages(addr, 3)?;
        assert_eq!(enable_pages(addr, 3), Err(EBUSY));
        unmap(addr + PAGE_SIZE, PAGE_SIZE)?;
        assert_eq!(enable_pages(addr + PAGE_SIZE, 1), Err(ENOMEM));
        unmap(addr, 3 * PAGE_SIZE)?;

        assert_eq!(disable_pages(addr, 3), Err(ENOMEM));
        Ok(())
    }

    #[test]
    fn shared_writable_pages_keep_their_content() -> Result {
        let file = ShmemFile::new(PAGE_SIZE)?;
        let addr = file.map(4 * PAGE_SIZE, Sharing::Shared, Access::ReadWrite)?;
        let other = file.map(4 * PAGE_SIZE, Sharing::Shared, Access::ReadWrite)?;

        enable_pages(addr, 4)?;
        enable_pages(other, 4)?;
        assert_eq!(file.writable_mappings(), 2);
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
        assert_eq!(write_byte(addr + PAGE_SIZE, 7), Ok(()));
        assert_eq!(write_byte(addr + 2 * PAGE_SIZE, 8), Ok(()));
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(7));
        assert_eq!(read_byte(addr + 2 * PAGE_SIZE), Ok(8));
        // Another mapping of the same file has pages of its own.
        assert_eq!(read_byte(other + PAGE_SIZE), Ok(0));
        // What is inside EOF is the file's.
        assert_eq!(write_byte(addr, 9), Ok(()));
        assert_eq!(read_byte(other), Ok(9));

        unmap(addr, 2 * PAGE_SIZE)?;
        assert_eq!(read_byte(addr + 2 * PAGE_SIZE), Ok(8));
        unmap(addr + 2 * PAGE_SIZE, 2 * PAGE_SIZE)?;
        unmap(other, 4 * PAGE_SIZE)
    }

    #[test]
    fn disable_undoes_enable() -> Result {
        for (sharing, access, counted) in [
            (Sharing::Shared, Access::Read, 1),
            (Sharing::Shared, Access::ReadWrite, 1),
            (Sharing::Private, Access::ReadWrite, 0),
        ] {
            let file = ShmemFile::new(PAGE_SIZE)?;
            let addr = file.map(3 * PAGE_SIZE, sharing, access)?;

            assert_eq!(disable_pages(addr, 3), Err(ENOENT));
            enable_pages(addr, 3)?;
            assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
            assert_eq!(disable_pages(addr, 1), Err(EINVAL));
            assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));

            disable_pages(addr, 3)?;
            assert_eq!(read_byte(addr), Ok(0));
            assert_eq!(read_byte(addr + PAGE_SIZE), Err(EFAULT));
            assert_eq!(file.writable_mappings(), counted);
            assert_eq!(disable_pages(addr, 3), Err(ENOENT));

            enable_pages(addr, 3)?;
            assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
            unmap(addr, 3 * PAGE_SIZE)?;
            assert_eq!(file.writable_mappings(), 0);
        }
        Ok(())
    }

    #[test]
    fn growth_shows_the_file() -> Result {
        for (sharing, access) in [
            (Sharing::Shared, Access::Read),
            (Sharing::Shared, Access::ReadWrite),
            (Sharing::Private, Access::Read),
        ] {
            let file = ShmemFile::new(0)?;
            let addr = file.map(4 * PAGE_SIZE, sharing, access)?;
            let plain = file.map(4 * PAGE_SIZE, Sharing::Shared, Access::ReadWrite)?;
            enable_pages(addr, 4)?;

            for page in 0..4 {
                assert_eq!(read_byte(addr + page * PAGE_SIZE), Ok(0));
            }
            for pages in [1, 3, 4] {
                file.truncate(pages * PAGE_SIZE)?;
                write_byte(plain + (pages - 1) * PAGE_SIZE, pages as u8)?;
                assert_eq!(read_byte(addr + (pages - 1) * PAGE_SIZE), Ok(pages as u8));
            }
            file.truncate(0)?;
            assert_eq!(read_byte(addr), Ok(0));
            assert_eq!(read_byte(plain), Err(EFAULT));
            unmap(addr, 4 * PAGE_SIZE)?;
            unmap(plain, 4 * PAGE_SIZE)?;
        }
        Ok(())
    }

    #[test]
    fn growth_drops_shadow_pages() -> Result {
        let file = ShmemFile::new(0)?;
        let addr = file.map(3 * PAGE_SIZE, Sharing::Shared, Access::ReadWrite)?;
        enable_pages(addr, 3)?;
        for page in 0..3 {
            write_byte(addr + page * PAGE_SIZE, 7)?;
        }

        file.truncate(PAGE_SIZE + 1)?;
        assert_eq!(read_byte(addr), Ok(0));
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
        assert_eq!(read_byte(addr + 2 * PAGE_SIZE), Ok(7));
        file.truncate(0)?;
        assert_eq!(read_byte(addr), Ok(0));
        assert_eq!(read_byte(addr + PAGE_SIZE), Ok(0));
        assert_eq!(read_byte(addr + 2 * PAGE_SIZE), Ok(7));
        unmap(addr, 3 * PAGE_SIZE)
    }
}
