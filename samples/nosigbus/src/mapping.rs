// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files mapped by this crate.

use crate::{AsMapping, Device, Error, ErrorKind, Flags, Result, Status};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, fstat, fstatfs},
    io::Errno,
    mm::{MapFlags, MsyncFlags, ProtFlags, mmap, mmap_anonymous, msync, munmap},
    param::page_size,
};
use std::{
    ptr, slice,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

const WORD: usize = size_of::<usize>();
const HUGETLBFS_MAGIC: u32 = 0x9584_58f6;

/// How to map a file: shared and read-only, from its start, unless told otherwise.
///
/// ```no_run
/// # fn f(file: std::fs::File) -> std::io::Result<()> {
/// let device = nosigbus::Device::open()?;
/// let mapping = nosigbus::MapOptions::new(1 << 20)
///     .offset(4096)
///     .write(true)
///     .map(&device, &file)?;
/// mapping.write_at(0, b"screenshot")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is mapped before map()"]
pub struct MapOptions<'a> {
    len: usize,
    offset: u64,
    write: bool,
    private: bool,
    record_errors: bool,
    event: Option<BorrowedFd<'a>>,
}

impl<'a> MapOptions<'a> {
    /// `len` bytes, of which the file need not have any.
    pub const fn new(len: usize) -> Self {
        Self {
            len,
            offset: 0,
            write: false,
            private: false,
            record_errors: false,
            event: None,
        }
    }

    /// Where in the file it begins, in bytes: a multiple of the page size.
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Whether it can be written to. The file must be open for reading and writing then, unless
    /// the mapping is private.
    pub const fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Whether what is written stays in this process, instead of going into the file.
    pub const fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Whether an I/O error inside the file, where the file system cannot read a page or has no
    /// space for one, is recorded instead of raising SIGBUS. [`Mapping::status`], [`Mapping::sync`]
    /// and [`Mapping::close`] tell of it. If a writable shared mapping is dropped without `close`,
    /// and something is lost, that is said on stderr.
    ///
    /// ```no_run
    /// # fn link(output: &nosigbus::Mapping) -> std::io::Result<()> { Ok(()) }
    /// # fn f(file: std::fs::File, len: usize) -> std::io::Result<()> {
    /// let device = nosigbus::Device::open()?;
    /// file.set_len(len as u64)?;
    /// let options = nosigbus::MapOptions::new(len).write(true);
    /// let output = options.record_errors(true).map(&device, &file)?;
    /// link(&output)?;
    /// output.close()?; // "No space left on device", and where; or the file was cut off
    /// file.sync_all()?; // what fails only now is told here, as ever
    /// # Ok(())
    /// # }
    /// ```
    pub const fn record_errors(mut self, record_errors: bool) -> Self {
        self.record_errors = record_errors;
        self
    }

    /// An eventfd to signal: an [`Event`](crate::Event), or any other. The module holds on to it.
    pub fn event(mut self, event: &'a impl AsFd) -> Self {
        self.event = Some(event.as_fd());
        self
    }

    /// Maps the file and opts the mapping in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRange`] if length or offset are no good, [`ErrorKind::CannotMap`] if the
    /// kernel does not map this file in this way, [`ErrorKind::Unsupported`] if it is no ordinary
    /// file. It is not mapped then.
    pub fn map(&self, device: &Device, file: impl AsFd) -> Result<Mapping> {
        self.check()?;
        let file = file.as_fd();
        check_file(file)?;

        match self.opt_in(device, Area::new(self, file)?) {
            // The kernel may have made one with a neighbour that somebody else has mapped, or is
            // about to opt in.
            Err(error) if error.kind() == ErrorKind::InvalidRange => {
                self.opt_in(device, Area::with_guards(self, file)?)
            }
            result => result,
        }
    }

    fn opt_in(&self, device: &Device, area: Area) -> Result<Mapping> {
        let mut mapping = Mapping {
            area,
            len: self.len,
            write: self.write,
            device: device.clone(),
            known: AtomicU64::new(0),
            must_not_lose: false,
        };
        let mut flags = Flags::empty();
        flags.set(Flags::RECORD_ERRORS, self.record_errors);
        device.enable_explained(mapping.as_mapping(), flags, self.event)?;
        mapping.must_not_lose = self.record_errors && self.write && !self.private;
        Ok(mapping)
    }

    fn check(&self) -> Result<()> {
        let page = page_size();
        let invalid = |advice: String| {
            let action = format!("mapping {} bytes at {} of a file", self.len, self.offset);
            Err(Error::new(ErrorKind::InvalidRange, action, None, advice))
        };
        if self.len == 0 {
            return invalid("give a length, which may be more than the file has".into());
        }
        if self.offset % page as u64 != 0 {
            return invalid(format!(
                "the offset has to be a multiple of the page size, {page}"
            ));
        }
        // With room for what rounds it up, and for guards.
        let end = self.offset.checked_add(self.len as u64);
        if self.len > isize::MAX as usize - 4 * page || end.is_none_or(|end| end > i64::MAX as u64)
        {
            return invalid("no file is that large: check where these numbers come from".into());
        }
        Ok(())
    }

    /// Maps the file.
    ///
    /// # Safety
    ///
    /// As that of mmap: with an address, nobody uses what is there.
    unsafe fn mmap(&self, addr: *mut u8, file: BorrowedFd<'_>) -> Result<*mut u8> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, self.write);
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::PRIVATE, self.private);
        flags.set(MapFlags::SHARED, !self.private);
        flags.set(MapFlags::FIXED, !addr.is_null());
        // SAFETY: Anywhere, or where the caller says.
        unsafe { mmap(addr.cast(), self.len, protection, flags, file, self.offset) }
            .map(|addr| addr.cast())
            .map_err(|errno| cannot_map(errno, "mmap"))
    }
}

fn cannot_map(errno: Errno, action: &'static str) -> Error {
    let advice = match errno {
        Errno::ACCESS => {
            "the file has to be open for reading, and for a shared mapping that is writable for \
             reading and writing"
        }
        Errno::PERM => "the file is sealed against it (F_SEAL_WRITE): map it read-only or private",
        Errno::NODEV => "files of this file system cannot be mapped in this way",
        Errno::NOMEM => {
            "the address space is used up, or there are too many mappings \
             (sysctl vm.max_map_count)"
        }
        Errno::AGAIN => "too much memory is locked (ulimit -l)",
        _ => "",
    };
    Error::new(ErrorKind::CannotMap, action, errno, advice)
}

/// Refuses what is no ordinary file before it is mapped, which devices may take for more than it
/// is. The module refuses what else there is.
fn check_file(file: BorrowedFd<'_>) -> Result<()> {
    let refuse = |what| {
        let advice = format!("only mappings of ordinary files can be opted in; this is {what}");
        Err(Error::new(
            ErrorKind::Unsupported,
            "mapping a file",
            None,
            advice,
        ))
    };
    let stat = fstat(file).map_err(|errno| Error::other("fstat", errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return refuse("a directory"),
        FileType::CharacterDevice | FileType::BlockDevice => return refuse("a device"),
        FileType::Fifo => return refuse("a pipe"),
        FileType::Socket => return refuse("a socket"),
        _ => return refuse("something else"),
    }
    let statfs = fstatfs(file).map_err(|errno| Error::other("fstatfs", errno))?;
    if statfs.f_type as u32 == HUGETLBFS_MAGIC {
        return refuse("one of huge pages (hugetlb)");
    }
    Ok(())
}

/// Address space that is given back.
#[derive(Debug)]
struct Area {
    addr: *mut u8,
    len: usize,
    /// Where in it the file begins.
    start: usize,
}

impl Area {
    /// The file, mapped where the kernel chooses.
    fn new(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: Where the kernel chooses.
        let addr = unsafe { options.mmap(ptr::null_mut(), file) }?;
        Ok(Self {
            addr,
            len: options.len,
            start: 0,
        })
    }

    /// The file, mapped with an inaccessible page on each side: it has no neighbour that the kernel
    /// could make one mapping with.
    fn with_guards(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<Self> {
        let page = page_size();
        let len = options.len.next_multiple_of(page) + 2 * page;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: Where the kernel chooses.
        let addr = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }
            .map_err(|errno| cannot_map(errno, "mmap"))?
            .cast::<u8>();
        let area = Self {
            addr,
            len,
            start: page,
        };
        // SAFETY: Inside of that, to which nobody else has a pointer.
        unsafe { options.mmap(addr.wrapping_add(page), file) }?;
        Ok(area)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to it any more. It is there, so this cannot fail, unless it has
        // to split a neighbour when there are too many mappings; then it just stays.
        let _ = unsafe { munmap(self.addr.cast(), self.len) };
    }
}

/// A file, or part of one, mapped and opted in: no access to it raises SIGBUS because the file is
/// shorter. Dropping it unmaps it.
///
/// # Why this is safe
///
/// Others, in this process and elsewhere, may write to the file at any time, and shrink it, so the
/// memory can change between any two looks at it. No Rust reference to plain bytes can be made of
/// that. Instead [`read_at`](Self::read_at) and [`write_at`](Self::write_at) copy:
///
/// * Every access is a relaxed atomic one of one aligned `usize`, whatever is copied. Parts of words
///   are written by compare-and-exchange. So any number of threads may copy at once, without data
///   races and without accesses of mixed sizes. Relaxed loads of that size may be made of read-only
///   memory.
/// * What is read is bytes, which may have any value. A copy that others write into meanwhile is
///   part old, part new: anything that has to be checked has to be checked in the copy.
/// * The memory is there as long as the `Mapping`: what others do to the file never makes an access
///   fail, past end-of-file. (Inside the file an I/O error is SIGBUS still, without
///   [`MapOptions::record_errors`]. That ends the process, and is not undefined behaviour.)
///
/// With errors recorded, pages can come to read as zeros, and stores not to reach the file.
/// [`Device::enable_recording`] is unsafe because code may depend on its memory for safety. Here
/// none does: all that there is are these copies, for which others could write the same zeros.
/// So [`clear_error`](Self::clear_error) is safe as well.
///
/// Whoever goes by [`as_ptr`](Self::as_ptr) writes `unsafe`, and has all of the above to answer for.
#[derive(Debug)]
pub struct Mapping {
    area: Area,
    len: usize,
    write: bool,
    device: Device,
    /// How many stand-ins [`Self::clear_error`] has told of.
    known: AtomicU64,
    /// Whether it is to be said if it is dropped and something is lost.
    must_not_lose: bool,
}

// SAFETY: Memory can be accessed and unmapped by any thread.
unsafe impl Send for Mapping {}
// SAFETY: All accesses through a reference are atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Address of the first byte. It is good as long as the mapping is. See "Why this is safe"
    /// before you use it: atomic or volatile accesses, and no references to plain bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.area.addr.wrapping_add(self.area.start)
    }

    /// How many bytes are mapped, whether or not the file has them. Never zero.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies what is at `offset` of the mapping into `bytes`. What the file does not have reads
    /// as zeros, or as what was written to stand-ins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if not all of it lies in the mapping; nothing is copied then.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check("reading", offset, bytes.len())?;
        let (head, bytes) = bytes.split_at_mut(to_word(offset).min(bytes.len()));
        let (mut words, inside) = self.words_from(offset);
        if !head.is_empty() {
            // There are bytes in it, so there is a word.
            load_part(&words[0], inside, head);
            words = &words[1..];
        }
        let mut chunks = bytes.chunks_exact_mut(WORD);
        let whole = chunks.len();
        for (chunk, word) in chunks.by_ref().zip(words) {
            chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        let tail = chunks.into_remainder();
        if !tail.is_empty() {
            load_part(&words[whole], 0, tail);
        }
        Ok(())
    }

    /// Copies `bytes` to `offset` of the mapping.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if not all of it would lie in the mapping, [`ErrorKind::ReadOnly`]
    /// without [`MapOptions::write`]; nothing is copied then.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check("writing", offset, bytes.len())?;
        if !self.write {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "writing to a mapping",
                None,
                "it is mapped read-only: MapOptions::write(true)",
            ));
        }
        let (head, bytes) = bytes.split_at(to_word(offset).min(bytes.len()));
        let (mut words, inside) = self.words_from(offset);
        if !head.is_empty() {
            store_part(&words[0], inside, head);
            words = &words[1..];
        }
        let mut chunks = bytes.chunks_exact(WORD);
        let whole = chunks.len();
        for (chunk, word) in chunks.by_ref().zip(words) {
            let mut value = [0; WORD];
            value.copy_from_slice(chunk);
            word.store(usize::from_ne_bytes(value), Relaxed);
        }
        let tail = chunks.remainder();
        if !tail.is_empty() {
            store_part(&words[whole], 0, tail);
        }
        Ok(())
    }

    /// What has become of the mapping. The next stand-in signals the eventfd again.
    pub fn status(&self) -> Result<Status> {
        self.device.status(self.as_ptr())
    }

    /// Tells as [`status`](Self::status) does, and then forgets the error, and drops what stands in
    /// for pages of the file because of errors, with what was written to it: the next access to
    /// each of them asks the file system again. Private pages stay.
    ///
    /// What this has told of, [`sync`](Self::sync) and [`close`](Self::close) do not tell again.
    pub fn clear_error(&self) -> Result<Status> {
        // SAFETY: No code relies on the content, see "Why this is safe".
        let status = unsafe { self.device.clear_error(self.as_ptr()) }?;
        self.known.store(status.stand_ins(), Relaxed);
        Ok(status)
    }

    /// Has the file system write back what was written (`msync` with `MS_SYNC`), and checks that
    /// all of it has gone to the file.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Self::close), and [`ErrorKind::Other`] with the errno of `msync`.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: It is mapped, and its content does not change.
        let written = unsafe { msync(self.as_ptr().cast(), self.len, MsyncFlags::SYNC) };
        // This says where.
        self.status()?.check_since(self.known.load(Relaxed))?;
        written.map_err(|errno| Error::other("msync", errno))
    }

    /// Unmaps it, and checks that all that was read was the file's, and that all that was written
    /// has gone to it. Nobody can access it between the two.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] if the file system has failed ([`MapOptions::record_errors`]),
    /// [`ErrorKind::CutOff`] if the file was too short at any time, also if it has grown since. It
    /// is unmapped then as well.
    pub fn close(mut self) -> Result<()> {
        self.must_not_lose = false;
        self.status()?.check_since(self.known.load(Relaxed))
    }

    fn check(&self, action: &str, offset: usize, len: usize) -> Result<()> {
        if offset <= self.len && len <= self.len - offset {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("{action} {len} bytes at {offset} of a mapping"),
            None,
            format!("it has {} bytes", self.len),
        ))
    }

    /// All words of the pages that are mapped.
    fn words(&self) -> &[AtomicUsize] {
        let len = self.len.next_multiple_of(page_size()) / WORD;
        // SAFETY: These pages are mapped as long as `self` is there. They begin at a page, so the
        // words are aligned. Nobody accesses them but atomically, or by unsafe code, or in ways
        // that are not this program's. A mapping that is not writable is never stored to.
        unsafe { slice::from_raw_parts(self.as_ptr().cast(), len) }
    }

    /// The words from that on which has the byte at `offset`, and where in it the byte is.
    fn words_from(&self, offset: usize) -> (&[AtomicUsize], usize) {
        (&self.words()[offset / WORD..], offset % WORD)
    }
}

/// See [`MapOptions::record_errors`].
impl Drop for Mapping {
    fn drop(&mut self) {
        if self.must_not_lose {
            let known = self.known.load(Relaxed);
            if let Err(error) = self.status().and_then(|status| status.check_since(known)) {
                eprintln!("nosigbus: a mapping is dropped: {error}");
            }
        }
    }
}

impl AsMapping for Mapping {
    fn as_mapping(&self) -> *const [u8] {
        ptr::slice_from_raw_parts(self.as_ptr(), self.len)
    }
}

/// How many bytes come before the next word.
fn to_word(offset: usize) -> usize {
    offset.next_multiple_of(WORD) - offset
}

fn load_part(word: &AtomicUsize, inside: usize, bytes: &mut [u8]) {
    bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[inside..][..bytes.len()]);
}

fn store_part(word: &AtomicUsize, inside: usize, bytes: &[u8]) {
    let merged = |old: usize| {
        let mut value = old.to_ne_bytes();
        value[inside..][..bytes.len()].copy_from_slice(bytes);
        Some(usize::from_ne_bytes(value))
    };
    // It is always Some, so this always succeeds.
    let _ = word.fetch_update(Relaxed, Relaxed, merged);
}
