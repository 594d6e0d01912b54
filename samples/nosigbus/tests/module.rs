// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests the crate with the module: tests/guest/crate.sh runs this in a guest. SMALL_TMPFS is the
//! directory of an empty tmpfs with space for 16 pages.

use memmap2::{Mmap, MmapMut, MmapOptions, MmapRaw};
use nosigbus::{
    AsMapping, Device, Error, ErrorKind, Event, Features, Flags, MapOptions, Mapping, Notice,
    StandInKind, Status, copy_from_shared, copy_to_shared,
};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    fd::OwnedFd,
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    io::Errno,
    mm::{
        MapFlags, MlockAllFlags, MremapFlags, ProtFlags, mlockall, mmap, mmap_anonymous, mremap,
        munlockall, munmap,
    },
    param::page_size,
    pipe::pipe,
};
use std::{
    env,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
    ptr, slice,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

const PAGES: usize = 4;

/// Threads can share these.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<(Device, Error, Event, Mapping)>();
};

fn memfd(name: &str, bytes: &[u8]) -> File {
    let file = File::from(memfd_create(name, MemfdFlags::ALLOW_SEALING).unwrap());
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn pages(count: usize) -> usize {
    count * page_size()
}

fn device() -> Device {
    Device::open().unwrap()
}

fn read(mapping: &Mapping, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xaa; len];
    mapping.read_at(offset, &mut bytes).unwrap();
    bytes
}

fn refused<T>(result: Result<T, Error>, kind: ErrorKind, errno: Errno) -> Error {
    let Err(error) = result else {
        panic!("not refused ({kind:?})");
    };
    assert_eq!(error.kind(), kind, "{error}");
    let errno = errno.raw_os_error();
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    // std's error has the same errno, and the text ends with that of std's error.
    let std = io::Error::from(error);
    assert_eq!(std.raw_os_error(), Some(errno), "{error}");
    assert!(error.to_string().ends_with(&std.to_string()), "{error}");
    error
}

/// Checks for an error of the crate itself, which has no errno.
fn refused_here<T>(result: Result<T, Error>, kind: ErrorKind, std: io::ErrorKind) {
    let Err(error) = result else {
        panic!("not refused ({kind:?})");
    };
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (kind, None),
        "{error}"
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), std, "{error}");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Error>()));
}

fn content_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns the lines of a memfd in /proc/self/maps.
fn maps_of(name: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = format!("/memfd:{name} ");
    maps.lines()
        .filter(|line| line.contains(&path))
        .map(str::to_owned)
        .collect()
}

/// Any address and length.
struct Range(*const [u8]);

impl AsMapping for Range {
    fn as_mapping(&self) -> *const [u8] {
        self.0
    }
}

#[test]
fn query_knows_this_version() {
    let query = device().query().unwrap();
    assert_eq!(query.version, 1);
    assert!(query.features.contains(
        Features::PRIVATE | Features::SHARED_READ | Features::SHARED_WRITE | Features::STATUS
    ));
    assert!(
        query
            .enable_flags
            .contains(Flags::RECORD_ERRORS | Flags::EVENTFD)
    );
}

#[test]
fn shared_read_only_reads_zeros_past_eof() {
    let file = memfd("empty", &[]);
    let mapping = device().map(&file, pages(PAGES)).unwrap();
    assert_eq!(mapping.len(), pages(PAGES));
    assert_eq!(read(&mapping, 0, pages(PAGES)), vec![0; pages(PAGES)]);
    let status = mapping.status().unwrap();
    assert_eq!(status.zero_pages, PAGES as u64);
    assert_eq!(status.stand_ins(), PAGES as u64);
    assert_eq!((status.shadow_pages, status.private_pages), (0, 0));
    assert_eq!(status.flags, Flags::empty());
    assert_eq!(status.error, None);
    refused_here(
        mapping.write_at(0, b"x"),
        ErrorKind::ReadOnly,
        io::ErrorKind::PermissionDenied,
    );
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn shared_writable_keeps_what_is_written_past_eof() {
    let file = memfd("empty", &[]);
    let options = MapOptions::new(pages(PAGES)).write(true);
    let mapping = options.map(&device(), &file).unwrap();
    mapping.write_at(pages(1), &vec![7; pages(1)]).unwrap();
    assert_eq!(read(&mapping, pages(1), pages(1)), vec![7; pages(1)]);
    assert_eq!(mapping.status().unwrap().shadow_pages_held, 1);
    assert_eq!(file.metadata().unwrap().len(), 0);

    // The file grows. Now its own pages show, and writes go to it.
    file.write_all_at(&vec![8; pages(PAGES)], 0).unwrap();
    assert_eq!(read(&mapping, 0, pages(PAGES)), vec![8; pages(PAGES)]);
    let status = mapping.status().unwrap();
    assert_eq!((status.shadow_pages_held, status.given_back), (0, 1));
    mapping.write_at(3, b"abc").unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"\x08\x08\x08abc\x08\x08");
}

/// This is why a compositor maps pools read-only: a client needs no memory of its own to make the
/// compositor read a whole pool.
#[test]
fn reads_alone_take_memory_of_a_writable_mapping_only() {
    let file = memfd("empty", &[]);
    for (write, held) in [(false, 0), (true, PAGES as u64)] {
        let options = MapOptions::new(pages(PAGES)).write(write);
        let mapping = options.map(&device(), &file).unwrap();
        assert_eq!(read(&mapping, 0, pages(PAGES)), vec![0; pages(PAGES)]);
        assert_eq!(mapping.status().unwrap().shadow_pages_held, held);
    }
}

#[test]
fn private_writes_stay_in_the_process() {
    let file = memfd("one page", &vec![1; pages(1)]);
    let options = MapOptions::new(pages(PAGES)).write(true).private(true);
    let mapping = options.map(&device(), &file).unwrap();
    mapping.write_at(0, &[2; 100]).unwrap();
    mapping.write_at(pages(2), &vec![3; pages(1)]).unwrap();
    assert_eq!(read(&mapping, 0, 101)[99..], [2, 1]);
    assert_eq!(
        read(&mapping, pages(2), pages(2))[pages(1) - 1..][..2],
        [3, 0]
    );
    let status = mapping.status().unwrap();
    assert_eq!((status.private_pages, status.zero_pages), (1, 1));
    assert_eq!(status.shadow_pages, 0);
    assert_eq!(content_of(&file), vec![1; pages(1)]);
}

#[test]
fn private_read_only_needs_no_write_access() {
    let file = memfd("empty", &[]);
    let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    for write in [false, true] {
        let options = MapOptions::new(10).write(write).private(true);
        let mapping = options.map(&device(), &file).unwrap();
        assert_eq!(read(&mapping, 0, 10), [0; 10]);
    }
    let shared = MapOptions::new(10).write(true).map(&device(), &file);
    refused(shared, ErrorKind::CannotMap, Errno::ACCESS);
}

#[test]
fn shrinking_leaves_zeros_and_what_is_left() {
    let file = memfd("shrinks", &vec![5; pages(PAGES)]);
    let mapping = device().map(&file, pages(PAGES)).unwrap();
    assert_eq!(read(&mapping, 0, pages(PAGES)), vec![5; pages(PAGES)]);
    assert_eq!(mapping.status().unwrap().stand_ins(), 0);

    file.set_len(pages(1) as u64 + 10).unwrap();
    let mut expected = vec![5; pages(1) + 10];
    expected.resize(pages(PAGES), 0);
    assert_eq!(read(&mapping, 0, pages(PAGES)), expected);
    assert_eq!(mapping.status().unwrap().zero_pages, 2);

    file.write_all_at(&vec![6; pages(PAGES)], 0).unwrap();
    assert_eq!(read(&mapping, 0, pages(PAGES)), vec![6; pages(PAGES)]);
}

#[test]
fn offset_and_odd_length() {
    let mut bytes = vec![1; pages(1)];
    bytes.extend([2; 77]);
    let file = memfd("offset", &bytes);
    let mapping = MapOptions::new(100)
        .offset(pages(1) as u64)
        .map(&device(), &file)
        .unwrap();
    assert_eq!(mapping.len(), 100);
    assert_eq!(read(&mapping, 0, 100), [vec![2; 77], vec![0; 23]].concat());
}

#[test]
fn it_needs_neither_device_nor_file_any_more() {
    let mapping = {
        let (device, file, event) = (device(), memfd("gone", &[9; 9]), Event::new().unwrap());
        MapOptions::new(pages(2))
            .event(&event)
            .map(&device, file)
            .unwrap()
    };
    assert_eq!(read(&mapping, 8, 2), [9, 0]);
    assert_eq!(read(&mapping, pages(1), 1), [0]);
    assert_eq!(mapping.status().unwrap().flags, Flags::EVENTFD);
}

#[test]
fn drop_and_close_unmap() {
    let file = memfd("unmapped", &[1; 10]);
    let mapping = device().map(&file, pages(1) + 1).unwrap();
    assert_eq!(maps_of("unmapped").len(), 1);
    drop(mapping);
    assert_eq!(maps_of("unmapped").len(), 0);

    let mapping = device().map(&file, pages(1) + 1).unwrap();
    read(&mapping, pages(1), 1);
    assert_eq!(mapping.close().unwrap_err().kind(), ErrorKind::CutOff);
    assert_eq!(maps_of("unmapped").len(), 0);

    let mapping = device().map(&file, pages(1) + 1).unwrap();
    assert_eq!(read(&mapping, 9, 2), [1, 0]);
    mapping.close().unwrap();
}

/// Returns whether epoll reports that a file descriptor is readable.
fn ready(epoll: &OwnedFd) -> bool {
    let mut events = Vec::with_capacity(1);
    epoll::wait(
        epoll,
        spare_capacity(&mut events),
        Some(&Timespec::default()),
    )
    .unwrap();
    !events.is_empty()
}

#[test]
fn event_in_epoll() {
    let event = Event::new().unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(1);
    epoll::add(&epoll, &event, data, epoll::EventFlags::IN).unwrap();

    let file = memfd("epoll", &vec![1; pages(1)]);
    let options = MapOptions::new(pages(PAGES)).event(&event);
    let mapping = options.map(&device(), &file).unwrap();
    read(&mapping, 0, pages(1));
    assert!(!ready(&epoll) && !event.take().unwrap());

    // Reads from the end backwards, so that no page is mapped ahead of a reader.
    read(&mapping, pages(3), 1);
    assert!(ready(&epoll) && event.take().unwrap());
    // Until the status is asked for, no other stand-in signals the event.
    read(&mapping, pages(2), 1);
    assert!(!ready(&epoll) && !event.take().unwrap());
    assert_eq!(mapping.status().unwrap().stand_ins(), 2);
    read(&mapping, pages(1), 1);
    assert!(ready(&epoll) && event.take().unwrap());
    assert!(!ready(&epoll));
}

/// Returns cookie, offset, kind, and whether there was an error, of each notice.
fn stand_ins(device: &Device) -> Vec<(u64, u64, StandInKind, bool)> {
    let told = device.notices().unwrap().into_iter();
    told.map(|notice| match notice {
        Notice::StandIn(told) => (told.cookie, told.offset, told.kind, told.error),
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn notices_tell_which_mapping_it_was() {
    let (device, file) = (device(), memfd("notices", &[7; 100]));
    let options = MapOptions::new(pages(PAGES));
    let map =
        |cookie: u64, options: MapOptions| options.cookie(cookie).map(&device, &file).unwrap();
    let epoll = epoll::create(epoll::CreateFlags::empty()).unwrap();
    let data = epoll::EventData::new_u64(1);
    epoll::add(&epoll, &device, data, epoll::EventFlags::IN).unwrap();
    let (read_only, writable) = (
        map(0, options.clone()),
        map(u64::MAX, options.clone().write(true)),
    );
    let private = map(7, options.private(true).write(true));

    assert_eq!(read(&read_only, 0, 100), [7; 100]);
    assert!(!ready(&epoll));
    assert!(stand_ins(&device).is_empty());
    writable.write_at(pages(3), &[1]).unwrap();
    // A whole word, because the crate reads a word before it writes a part of it.
    private.write_at(pages(2), &[1; 8]).unwrap();
    read(&read_only, pages(1), 1);
    read(&read_only, pages(3), 1);
    assert!(ready(&epoll));
    let size = page_size() as u64;
    let all = [
        (u64::MAX, 3 * size, StandInKind::Shadow, false),
        (7, 2 * size, StandInKind::Private, false),
        (0, size, StandInKind::Zero, false),
    ];
    assert_eq!(stand_ins(&device), all);
    assert!(!ready(&epoll));

    // A mapping causes another notice only after its status was asked for.
    writable.write_at(pages(2), &[1]).unwrap();
    assert!(stand_ins(&device).is_empty());
    assert_eq!(writable.status().unwrap().stand_ins(), 2);
    writable.write_at(pages(1), &[1]).unwrap();
    let again = [(u64::MAX, size, StandInKind::Shadow, false)];
    assert_eq!(stand_ins(&device), again);

    // SAFETY: Nobody writes to the file.
    let map = unsafe { MmapOptions::new().len(pages(PAGES)).map(&file) }.unwrap();
    let map = device.protect_with_cookie(map, 9).unwrap();
    assert_eq!(map[pages(3)], 0);
    assert_eq!(
        stand_ins(&device),
        [(9, 3 * size, StandInKind::Zero, false)]
    );
}

#[test]
fn notices_of_more_than_are_read_at_once() {
    let (device, file) = (device(), memfd("many", &[]));
    let options = |cookie| MapOptions::new(pages(1)).cookie(cookie);
    let mappings: Vec<Mapping> = (0..100)
        .map(|cookie| options(cookie).map(&device, &file).unwrap())
        .collect();
    for mapping in mappings.iter().rev() {
        read(mapping, 0, 1);
    }
    drop(mappings);
    let told = stand_ins(&device);
    assert_eq!(told.len(), 100);
    assert!(told.iter().map(|told| told.0).eq((0..100).rev()));
}

#[test]
fn one_event_for_two_mappings_and_an_eventfd_of_others() {
    let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let (file, device) = (memfd("two", &[]), device());
    let options = MapOptions::new(pages(1)).event(&event);
    for mapping in [
        options.clone().map(&device, &file),
        options.map(&device, &file),
    ] {
        read(&mapping.unwrap(), 0, 1);
    }
    let mut counter = [0; 8];
    rustix::io::read(&event, &mut counter).unwrap();
    assert_eq!(u64::from_ne_bytes(counter), 2);
}

#[test]
fn what_is_no_eventfd_is_refused() {
    let file = memfd("no event", &[]);
    let options = MapOptions::new(pages(1)).event(&file);
    refused(
        options.map(&device(), &file),
        ErrorKind::NotAnEventfd,
        Errno::INVAL,
    );
    assert_eq!(maps_of("no event").len(), 0);
    let path = open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
    let options = MapOptions::new(pages(1)).event(&path);
    refused(
        options.map(&device(), &file),
        ErrorKind::NotAnEventfd,
        Errno::BADF,
    );
}

#[test]
fn a_full_disk_is_an_error() {
    let directory = PathBuf::from(env::var_os("SMALL_TMPFS").expect("SMALL_TMPFS is set"));
    let (space, size) = (16, 24);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(directory.join("output"))
        .unwrap();
    file.set_len(pages(size) as u64).unwrap();
    let event = Event::new().unwrap();
    let output = MapOptions::new(pages(size))
        .write(true)
        .record_errors(true)
        .event(&event)
        .map(&device(), &file)
        .unwrap();
    for page in 0..size {
        output
            .write_at(pages(page), &vec![page as u8 + 1; pages(1)])
            .unwrap();
    }
    assert!(event.take().unwrap());
    let status = output.status().unwrap();
    let error = status.error.expect("ENOSPC is recorded");
    assert_eq!(error.errno, Errno::NOSPC.raw_os_error());
    assert_eq!(error.offset, pages(space) as u64);
    assert_eq!(status.shadow_pages_held, (size - space) as u64);
    assert_eq!(status.flags, Flags::RECORD_ERRORS | Flags::EVENTFD);
    assert!(error.to_string().starts_with("ENOSPC: "), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    for error in [status.check().unwrap_err(), output.sync().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert_eq!(
            error.recorded().map(|error| error.offset),
            Some(pages(space) as u64)
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    }
    // The stand-ins have the data that was written, and the file does not.
    assert_eq!(read(&output, pages(size) - 1, 1), [size as u8]);
    let mut last = [1];
    file.read_exact_at(&mut last, pages(size) as u64 - 1)
        .unwrap();
    assert_eq!(last, [0]);

    // Cutting off pages that the file has makes space. After `clear_error`, the write succeeds.
    file.set_len(pages(8) as u64).unwrap();
    file.set_len(pages(12) as u64).unwrap();
    assert!(output.clear_error().unwrap().error.is_some());
    output.write_at(pages(11), &vec![99; pages(1)]).unwrap();
    assert_eq!(content_of(&file)[pages(11)..], vec![99; pages(1)]);
    assert_eq!(output.status().unwrap().error, None);
    output.close().unwrap();
    fs::remove_file(directory.join("output")).unwrap();
}

/// Cuts the file off between the stores and the end. At the end the file has all its pages again.
#[test]
fn stores_that_are_gone_are_told() {
    for record_errors in [false, true] {
        let file = memfd("regrown", &vec![1; pages(4)]);
        let output = MapOptions::new(pages(4))
            .write(true)
            .record_errors(record_errors)
            .map(&device(), &file)
            .unwrap();
        output.write_at(0, &vec![2; pages(4)]).unwrap();
        output.sync().unwrap();
        file.set_len(pages(1) as u64).unwrap();
        output.write_at(pages(2), &[3]).unwrap();
        file.set_len(pages(4) as u64).unwrap();
        assert_eq!(read(&output, pages(2), 1), [0]);
        let status = output.status().unwrap();
        assert_eq!((status.shadow_pages_held, status.given_back), (0, 1));
        assert_eq!(status.check().unwrap_err().kind(), ErrorKind::CutOff);
        assert_eq!(output.sync().unwrap_err().kind(), ErrorKind::CutOff);
        let error = output.close().unwrap_err();
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
    }
}

/// Compares with a copy in ordinary memory, at all offsets in a word, and across pages.
#[test]
fn copies_are_exact() {
    let len = pages(2) + 100;
    let mut model = (0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    let file = memfd("copies", &model);
    let mapping = MapOptions::new(len)
        .write(true)
        .map(&device(), &file)
        .unwrap();
    let starts = [0, pages(1) - 20, len - 60];
    for (round, offset) in starts.into_iter().flat_map(|s| s..s + 19).enumerate() {
        for size in 0..42 {
            assert_eq!(read(&mapping, offset, size), model[offset..][..size]);
            let bytes = (0..size).map(|i| (i * 7 + round) as u8).collect::<Vec<_>>();
            mapping.write_at(offset, &bytes).unwrap();
            model[offset..][..size].copy_from_slice(&bytes);
        }
    }
    assert_eq!(read(&mapping, 0, len), model);
    assert_eq!(content_of(&file), model);
    assert_eq!(read(&mapping, len, 0), []);
    mapping.write_at(len, &[]).unwrap();
}

#[test]
fn out_of_bounds() {
    let file = memfd("bounds", &[]);
    let mapping = MapOptions::new(100)
        .write(true)
        .map(&device(), &file)
        .unwrap();
    let mut bytes = [0xaa; 16];
    for offset in [85, 100, 101, pages(1), usize::MAX - 15, usize::MAX] {
        let read = mapping.read_at(offset, &mut bytes);
        refused_here(read, ErrorKind::OutOfBounds, io::ErrorKind::InvalidInput);
        refused_here(
            mapping.write_at(offset, &bytes),
            ErrorKind::OutOfBounds,
            io::ErrorKind::InvalidInput,
        );
    }
    refused_here(
        mapping.read_at(101, &mut []),
        ErrorKind::OutOfBounds,
        io::ErrorKind::InvalidInput,
    );
    assert_eq!(bytes, [0xaa; 16]);
    assert_eq!(mapping.status().unwrap().stand_ins(), 0);
}

#[test]
fn bad_lengths_and_offsets() {
    let (file, device) = (memfd("lengths", &[]), device());
    let page = page_size() as u64;
    for (len, offset) in [
        (0, 0),
        (1, 1),
        (1, page + 8),
        (usize::MAX, 0),
        (isize::MAX as usize, 0),
        (pages(1), u64::MAX - page + 1),
        (pages(2), i64::MAX as u64 - page + 1),
    ] {
        let map = MapOptions::new(len).offset(offset).map(&device, &file);
        refused(map, ErrorKind::InvalidRange, Errno::INVAL);
    }
    // Longer than the address space.
    refused(
        device.map(&file, 1 << 60),
        ErrorKind::CannotMap,
        Errno::NOMEM,
    );
    // Near the largest offset that a file can have.
    let offset = i64::MAX as u64 - 2 * page + 1;
    let mapping = MapOptions::new(pages(1))
        .offset(offset)
        .map(&device, &file)
        .unwrap();
    assert_eq!(read(&mapping, 0, 8), [0; 8]);
}

#[test]
fn files_that_are_not_ordinary() {
    let device = device();
    let directory = File::open("/").unwrap();
    refused(
        device.map(directory, 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    let zero = File::open("/dev/zero").unwrap();
    refused(
        device.map(zero, 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    refused(
        device.map(pipe().unwrap().0, 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    refused(
        device.map(socket, 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    let huge = memfd_create("huge", MemfdFlags::HUGETLB).unwrap();
    refused(
        device.map(huge, 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    let proc = File::open("/proc/self/maps").unwrap();
    let error = device.map(proc, 1).unwrap_err();
    assert!(
        [ErrorKind::CannotMap, ErrorKind::Unsupported].contains(&error.kind()),
        "{error}"
    );
    refused(
        device.map(File::open("/dev/null").unwrap(), 1),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
}

#[test]
fn a_sealed_file_is_mapped_read_only() {
    let file = memfd("sealed", &[1]);
    fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    let options = MapOptions::new(pages(2));
    let write = options.clone().write(true).map(&device(), &file);
    refused(write, ErrorKind::CannotMap, Errno::PERM);
    let mapping = options.map(&device(), &file).unwrap();
    assert_eq!(read(&mapping, 0, 2), [1, 0]);
}

#[test]
fn protect_memmap2() {
    let (file, device) = (memfd("memmap2", &vec![1; pages(2)]), device());
    let lost = |status: Result<Status, Error>| status.unwrap().stand_ins();

    // SAFETY: The test has no reference to the bytes while it changes the file.
    let shared = unsafe { Mmap::map(&file) }.unwrap();
    let shared = device.protect(shared).unwrap();
    // SAFETY: As above.
    let mut private = unsafe { MmapOptions::new().map_copy(&file) }.unwrap();
    let event = Event::new().unwrap();
    device.protect_with_event(&private, &event).unwrap();
    let raw = device.protect(MmapRaw::map_raw(&file).unwrap()).unwrap();
    // SAFETY: As above.
    let odd = unsafe { MmapOptions::new().offset(100).len(pages(1)).map_mut(&file) }.unwrap();
    let mut odd = device.protect(odd).unwrap();

    file.set_len(pages(1) as u64).unwrap();
    assert_eq!((shared[0], shared[pages(1)]), (1, 0));
    assert_eq!(lost(shared.status()), 1);
    assert!(!event.take().unwrap());
    private[pages(1)] = 3;
    assert_eq!(private[pages(1)..][..2], [3, 0]);
    assert!(event.take().unwrap());
    assert_eq!(device.status(private.as_ptr()).unwrap().private_pages, 1);
    // SAFETY: The address is in the mapping.
    assert_eq!(unsafe { raw.as_ptr().add(pages(1)).read_volatile() }, 0);
    assert_eq!(lost(raw.status()), 1);
    odd[pages(1) - 1] = 4;
    assert_eq!(odd[pages(1) - 100 - 1..][..2], [1, 0]);
    assert_eq!(lost(odd.status()), 1);
    assert_eq!(shared.into_inner().len(), pages(2));

    // memmap2 maps a page of an empty file.
    // SAFETY: As above.
    let nothing = unsafe { Mmap::map(&memfd("nothing", &[])) }.unwrap();
    let nothing = device.protect(nothing).unwrap();
    assert_eq!((nothing.len(), lost(nothing.status())), (0, 0));
}

#[test]
fn protect_refuses() {
    let device = device();
    let memory = MmapMut::map_anon(pages(1)).unwrap();
    refused(
        device.protect(&memory),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    let range = ptr::slice_from_raw_parts(memory.as_ptr(), pages(1));
    refused(
        device.enable(range, None),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );

    // SAFETY: Where the kernel chooses.
    let shared =
        unsafe { mmap_anonymous(ptr::null_mut(), pages(1), ProtFlags::READ, MapFlags::SHARED) };
    let shared = Range(ptr::slice_from_raw_parts(shared.unwrap().cast(), 1));
    refused(
        device.protect(shared),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );

    let file = memfd("refused", &vec![1; pages(3)]);
    let map = || MmapRaw::map_raw(&file).unwrap();
    let twice = device.protect(map()).unwrap();
    refused(
        device.protect(&*twice),
        ErrorKind::AlreadyOptedIn,
        Errno::BUSY,
    );
    let locked = map();
    locked.lock().unwrap();
    refused(
        device.protect(&locked),
        ErrorKind::Unsupported,
        Errno::OPNOTSUPP,
    );
    locked.unlock().unwrap();
    device.protect(&locked).unwrap();

    let plain = map();
    let start = plain.as_ptr();
    let part = |from: usize, len| Range(ptr::slice_from_raw_parts(start.wrapping_add(from), len));
    refused(
        device.protect(part(0, pages(1))),
        ErrorKind::InvalidRange,
        Errno::INVAL,
    );
    refused(
        device.protect(part(8, pages(1))),
        ErrorKind::InvalidRange,
        Errno::INVAL,
    );
    refused(
        device.protect(part(0, 0)),
        ErrorKind::InvalidRange,
        Errno::INVAL,
    );
    refused(device.status(start), ErrorKind::NotOptedIn, Errno::NOENT);
    // SAFETY: No code relies on the stand-ins.
    let disable = unsafe { device.disable(part(0, pages(3)).0) };
    refused(disable, ErrorKind::NotOptedIn, Errno::NOENT);
    refused(
        device.status(ptr::null()),
        ErrorKind::NoMemory,
        Errno::NOMEM,
    );
    let page = ptr::without_provenance(page_size());
    let hole = Range(ptr::slice_from_raw_parts(page, pages(1)));
    refused(device.protect(hole), ErrorKind::NoMemory, Errno::NOMEM);
}

/// Makes the kernel lock what the process of this test maps from here on.
#[test]
fn mapping_refuses_what_is_locked() {
    let file = memfd("locked", &vec![1; pages(1)]);
    mlockall(MlockAllFlags::FUTURE).unwrap();
    let map = device().map(&file, pages(2));
    munlockall().unwrap();
    refused(map, ErrorKind::Unsupported, Errno::OPNOTSUPP);
    assert_eq!(maps_of("locked").len(), 0);
    device().map(&file, pages(2)).unwrap();
}

/// The kernel merges the new mapping with a plain mapping, which is adjacent in memory and in the
/// file. The crate must opt the new mapping in all the same.
#[test]
fn a_neighbour_is_no_obstacle() {
    let file = memfd("neighbour", &vec![1; pages(2)]);
    let page = page_size();
    let anonymous = |len| {
        // SAFETY: Where the kernel chooses.
        let addr =
            unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE) };
        addr.unwrap().cast::<u8>()
    };
    let place = anonymous(pages(2));
    // SAFETY: Replaces the second page of the area above, and unmaps the first.
    unsafe {
        let (flags, addr) = (MapFlags::SHARED | MapFlags::FIXED, place.add(page));
        mmap(
            addr.cast(),
            page,
            ProtFlags::READ,
            flags,
            &file,
            page as u64,
        )
        .unwrap();
        munmap(place.cast(), page).unwrap();
    }
    // Fills the gaps above, so that the kernel chooses `place` for the next mapping.
    while anonymous(page) != place {}
    // SAFETY: Nobody uses it.
    unsafe { munmap(place.cast(), page) }.unwrap();

    // SAFETY: Where the kernel chooses.
    let plain = unsafe {
        mmap(
            ptr::null_mut(),
            page,
            ProtFlags::READ,
            MapFlags::SHARED,
            &file,
            0,
        )
    };
    assert_eq!(plain.unwrap().cast::<u8>(), place);
    assert_eq!(maps_of("neighbour").len(), 1, "the kernel has merged them");
    // SAFETY: Nobody uses it.
    unsafe { munmap(place.cast(), page) }.unwrap();

    let mapping = device().map(&file, page).unwrap();
    assert_ne!(mapping.as_ptr(), place);
    file.set_len(0).unwrap();
    assert_eq!(read(&mapping, 0, page), vec![0; page]);
    drop(mapping);
    assert_eq!(maps_of("neighbour").len(), 1);
}

/// Each thread writes to a byte of its own in the same word.
#[test]
fn threads_do_not_lose_each_others_bytes() {
    const THREADS: usize = 3;
    let file = memfd("threads", &[0; 8]);
    let mapping = MapOptions::new(8)
        .write(true)
        .map(&device(), &file)
        .unwrap();
    let all_there = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mapping, all_there) = (&mapping, &all_there);
            scope.spawn(move || {
                all_there.wait();
                for round in 0..100_000 {
                    let byte = [round as u8];
                    mapping.write_at(1 + thread, &byte).unwrap();
                    let mut found = [0];
                    mapping.read_at(1 + thread, &mut found).unwrap();
                    assert_eq!(found, byte);
                }
            });
        }
    });
    let last = 99_999_u32 as u8;
    assert_eq!(content_of(&file), [0, last, last, last, 0, 0, 0, 0]);
}

#[test]
fn threads_copy_while_the_file_changes_size() {
    let file = memfd("changes", &vec![1; pages(16)]);
    let shared = MapOptions::new(pages(16))
        .write(true)
        .map(&device(), &file)
        .unwrap();
    let read_only = device().map(&file, pages(16)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for start in 0..2 {
            let (shared, read_only, done) = (&shared, &read_only, &done);
            scope.spawn(move || {
                let mut copies = 0;
                while !done.load(Relaxed) || copies < 20 {
                    shared.write_at(start, &vec![1; pages(15)]).unwrap();
                    let bytes = read(read_only, 0, pages(16));
                    assert!(bytes.iter().all(|&byte| byte <= 1));
                    let _ = shared.status().unwrap();
                    copies += 1;
                }
            });
        }
        for round in 0..2000 {
            file.set_len(pages(round * 7 % 17) as u64).unwrap();
        }
        done.store(true, Relaxed);
    });
    // No stand-in is left once the file has all of its pages.
    file.write_all_at(&vec![2; pages(16)], 0).unwrap();
    assert_eq!(read(&shared, 0, pages(16)), vec![2; pages(16)]);
    assert_eq!(shared.status().unwrap().shadow_pages_held, 0);
    assert!(read_only.status().unwrap().zero_pages > 0);
    for mapping in [shared, read_only] {
        assert_eq!(mapping.close().unwrap_err().kind(), ErrorKind::CutOff);
    }
}

/// Two threads map adjacent pages of the file at the same time, many times.
#[test]
fn threads_map_neighbours() {
    let (file, device) = (memfd("continued", &vec![1; pages(2)]), device());
    thread::scope(|scope| {
        for page in 0..2 {
            let (file, device) = (&file, &device);
            scope.spawn(move || {
                for _ in 0..300 {
                    let options = MapOptions::new(pages(1)).offset(pages(page) as u64);
                    let mapping = options.map(device, file).unwrap();
                    assert_eq!(read(&mapping, 0, 8), [1; 8]);
                }
            });
        }
    });
    assert_eq!(maps_of("continued").len(), 0);
}

/// Code that uses the address must see the same bytes.
#[test]
fn the_address_is_that_of_the_first_byte() {
    let file = memfd("address", b"address");
    let mapping = device().map(&file, 7).unwrap();
    // SAFETY: Nobody writes to it.
    let bytes = unsafe { slice::from_raw_parts(mapping.as_ptr(), mapping.len()) };
    assert_eq!(bytes, b"address");
}

/// Mappings of all classes keep their content when they become longer, even if they move.
#[test]
fn resize_keeps_all_there_is() {
    for (write, private) in [(false, false), (true, false), (false, true), (true, true)] {
        let file = memfd("resized", &vec![1; pages(1)]);
        let event = Event::new().unwrap();
        let options = MapOptions::new(pages(2)).write(write).private(private);
        let mut mapping = options.event(&event).map(&device(), &file).unwrap();
        let mut expected = vec![1; pages(1)];
        expected.resize(pages(2), 0);
        if write {
            mapping.write_at(pages(1), &[2; 10]).unwrap();
            expected[pages(1)..][..10].fill(2);
            if private {
                mapping.write_at(0, &[3; 10]).unwrap();
                expected[..10].fill(3);
            }
        }
        assert_eq!(read(&mapping, 0, pages(2)), expected);
        let before = mapping.status().unwrap();
        assert!(before.stand_ins() > 0 && event.take().unwrap());

        for count in 3..40 {
            mapping.resize(pages(count) - 5).unwrap();
            assert_eq!(mapping.len(), pages(count) - 5);
            assert_eq!(maps_of("resized").len(), 1, "what was there is gone");
            assert_eq!(read(&mapping, 0, pages(2)), expected);
            assert!(!event.take().unwrap());
            // The new part is opted in too.
            assert_eq!(read(&mapping, pages(count) - 6, 1), [0]);
            assert!(event.take().unwrap());
            let status = mapping.status().unwrap();
            assert!(status.stand_ins() > before.stand_ins());
            assert_eq!(status.flags, Flags::EVENTFD);
        }
        refused_here(
            mapping.read_at(pages(39), &mut [0]),
            ErrorKind::OutOfBounds,
            io::ErrorKind::InvalidInput,
        );

        // The file grows: its pages show, except where there are private pages.
        file.write_all_at(&vec![4; pages(39)], 0).unwrap();
        assert_eq!(read(&mapping, pages(2), pages(1)), vec![4; pages(1)]);
        let first = if private && write { 3 } else { 4 };
        assert_eq!(read(&mapping, 0, 1), [first]);
        assert_eq!(mapping.status().unwrap().shadow_pages_held, 0);

        mapping.resize(pages(1) + 1).unwrap();
        assert_eq!(mapping.len(), pages(1) + 1);
        refused_here(
            mapping.read_at(pages(1), &mut [0; 2]),
            ErrorKind::OutOfBounds,
            io::ErrorKind::InvalidInput,
        );
        assert_eq!(mapping.close().unwrap_err().kind(), ErrorKind::CutOff);
        assert_eq!(maps_of("resized").len(), 0);
    }
}

/// mremap alone fails here. `resize` does not.
#[test]
fn resize_where_there_is_room_behind() {
    let file = memfd("room", &[1; 10]);
    let mut mapping = device().map(&file, pages(64)).unwrap();
    mapping.resize(pages(1)).unwrap();
    // SAFETY: If this fails, as it should, nothing has changed. Otherwise the mapping is only
    // longer.
    let grown = unsafe {
        mremap(
            mapping.as_ptr().cast(),
            pages(1),
            pages(2),
            MremapFlags::MAYMOVE,
        )
    };
    assert_eq!(grown.unwrap_err(), Errno::NOMEM);
    mapping.resize(pages(64)).unwrap();
    assert_eq!(read(&mapping, 9, 2), [1, 0]);
    assert_eq!(read(&mapping, pages(63), 1), [0]);
}

#[test]
fn resize_to_the_same_pages_stays_where_it_is() {
    let mut mapping = device().map(memfd("same", &[1; 10]), 10).unwrap();
    let addr = mapping.as_ptr();
    mapping.resize(pages(1)).unwrap();
    mapping.resize(5).unwrap();
    assert_eq!((mapping.as_ptr(), mapping.len()), (addr, 5));
}

#[test]
fn resize_that_fails_changes_nothing() {
    let file = memfd("unchanged", &[1; 10]);
    let options = MapOptions::new(pages(2)).write(true);
    let mut mapping = options.map(&device(), &file).unwrap();
    mapping.write_at(pages(1), &[5]).unwrap();
    let (addr, maps) = (mapping.as_ptr(), maps_of("unchanged"));
    for len in [0, usize::MAX, isize::MAX as usize] {
        refused(mapping.resize(len), ErrorKind::InvalidRange, Errno::INVAL);
    }
    refused(mapping.resize(1 << 60), ErrorKind::CannotMap, Errno::NOMEM);
    assert_eq!((mapping.as_ptr(), mapping.len()), (addr, pages(2)));
    assert_eq!(maps_of("unchanged"), maps);
    assert_eq!(read(&mapping, pages(1), 1), [5]);
    assert_eq!(mapping.status().unwrap().shadow_pages_held, 1);
}

/// After `resize`, `close` still reports errors and lost stores from before.
#[test]
fn resize_forgets_no_loss() {
    let directory = PathBuf::from(env::var_os("SMALL_TMPFS").expect("SMALL_TMPFS is set"));
    let (space, size) = (16, 20);
    let path = directory.join("resized");
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true);
    let file = file.open(&path).unwrap();
    file.set_len(pages(size) as u64).unwrap();
    for last in [size + 5, 3] {
        let options = MapOptions::new(pages(size)).write(true);
        let mut output = options.record_errors(true).map(&device(), &file).unwrap();
        for page in 0..size {
            output.write_at(pages(page), &[page as u8 + 1]).unwrap();
        }
        output.resize(pages(last)).unwrap();
        let status = output.status().unwrap();
        let error = status.error.expect("ENOSPC is recorded");
        assert_eq!(error.errno, Errno::NOSPC.raw_os_error());
        assert_eq!(error.offset, pages(space) as u64);
        if last > size {
            assert_eq!(status.shadow_pages_held, (size - space) as u64);
            assert_eq!(read(&output, pages(size - 1), 1), [size as u8]);
        }
        assert_eq!(output.close().unwrap_err().kind(), ErrorKind::Failed);
    }
    fs::remove_file(path).unwrap();

    // Stores to a stand-in, in a part that `resize` then unmaps.
    let file = memfd("short", &[]);
    let options = MapOptions::new(pages(4)).write(true);
    let mut output = options.map(&device(), &file).unwrap();
    output.write_at(pages(3), &[1]).unwrap();
    output.resize(pages(1)).unwrap();
    file.set_len(pages(4) as u64).unwrap();
    assert_eq!(output.close().unwrap_err().kind(), ErrorKind::CutOff);
}

#[test]
fn without_the_device_the_mapping_is_plain_and_says_so() {
    let file = memfd("plain", &vec![1; pages(2)]);
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    let none = Device::try_from(null);
    let error = *none.as_ref().unwrap_err();
    let options = MapOptions::new(pages(2)).write(true);
    let mut mapping = options.map_or_plain(&none, &file).unwrap();
    assert!(!mapping.is_protected());
    assert_eq!(mapping.why_plain(), Some(&error));
    assert_eq!(read(&mapping, 0, pages(2)), vec![1; pages(2)]);
    mapping.write_at(3, b"abc").unwrap();
    assert_eq!(content_of(&file)[..8], *b"\x01\x01\x01abc\x01\x01");
    refused(mapping.status(), ErrorKind::NotOptedIn, Errno::NOENT);
    refused(mapping.clear_error(), ErrorKind::NotOptedIn, Errno::NOENT);
    file.set_len(pages(50) as u64).unwrap();
    mapping.resize(pages(50)).unwrap();
    assert_eq!(read(&mapping, pages(49), 1), [0]);
    mapping.sync().unwrap();
    mapping.close().unwrap();
    assert_eq!(maps_of("plain").len(), 0);

    let mapping = options.map_plain(&file).unwrap();
    assert_eq!((mapping.is_protected(), mapping.why_plain()), (false, None));

    // With a device the mapping is opted in. A file that cannot be mapped is an error in both
    // cases.
    let device = Ok(device());
    let mapping = options.map_or_plain(&device, &file).unwrap();
    assert_eq!((mapping.is_protected(), mapping.why_plain()), (true, None));
    file.set_len(0).unwrap();
    assert_eq!(read(&mapping, 0, 1), [0]);
    for device in [&device, &none] {
        let directory = options.map_or_plain(device, File::open("/").unwrap());
        refused(directory, ErrorKind::Unsupported, Errno::OPNOTSUPP);
        let too_long = MapOptions::new(1 << 60).map_or_plain(device, &file);
        refused(too_long, ErrorKind::CannotMap, Errno::NOMEM);
    }
}

/// Makes the kernel lock what the process of this test maps from here on. The module refuses such
/// mappings.
#[test]
fn what_the_module_refuses_is_plain() {
    let file = memfd("locked", &vec![1; pages(1)]);
    mlockall(MlockAllFlags::FUTURE).unwrap();
    let mapping = MapOptions::new(pages(1)).map_or_plain(&Ok(device()), &file);
    munlockall().unwrap();
    let mapping = mapping.unwrap();
    assert!(!mapping.is_protected());
    let why = mapping.why_plain().map(Error::kind);
    assert_eq!(why, Some(ErrorKind::Unsupported));
    assert_eq!(read(&mapping, 0, 1), [1]);
}

#[test]
fn tmpfs_only_refuses_other_file_systems() {
    let options = MapOptions::new(10).tmpfs_only(true);
    let other = File::open("/proc/self/maps").unwrap();
    refused(
        options.map(&device(), &other),
        ErrorKind::NotTmpfs,
        Errno::OPNOTSUPP,
    );
    // This is an error, and no reason for a plain mapping.
    refused(
        options.map_or_plain(&Ok(device()), &other),
        ErrorKind::NotTmpfs,
        Errno::OPNOTSUPP,
    );
    let directory = PathBuf::from(env::var_os("SMALL_TMPFS").expect("SMALL_TMPFS is set"));
    let path = directory.join("tmpfs");
    fs::write(&path, [7; 5]).unwrap();
    for file in [memfd("tmpfs", &[7; 5]), File::open(&path).unwrap()] {
        let mapping = options.map(&device(), &file).unwrap();
        assert_eq!(read(&mapping, 4, 2), [7, 0]);
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_device_that_was_handed_over() {
    let mut options = File::options();
    let fd = OwnedFd::from(
        options
            .read(true)
            .write(true)
            .open("/dev/nosigbus")
            .unwrap(),
    );
    let device = Device::try_from(fd).unwrap();
    assert_eq!(device.as_fd().as_raw_fd(), device.as_raw_fd());
    let copy = Device::try_from(device.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mapping = copy.map(memfd("handed over", &[]), 1).unwrap();
    assert_eq!(read(&mapping, 0, 1), [0]);

    for other in [memfd("no device", &[]), File::open("/dev/zero").unwrap()] {
        refused(
            Device::try_from(OwnedFd::from(other)),
            ErrorKind::NotTheDevice,
            Errno::NOTTY,
        );
    }
}

/// Copies from and to a mapping of other code.
#[test]
fn copies_by_address() {
    let file = memfd("by address", &vec![1; pages(2)]);
    let map = device().protect(MmapRaw::map_raw(&file).unwrap()).unwrap();
    file.set_len(pages(1) as u64).unwrap();
    let mut bytes = vec![9; pages(2)];
    // SAFETY: All of it is mapped, and nobody else in this process accesses it.
    unsafe { copy_from_shared(map.as_ptr(), &mut bytes) };
    assert_eq!(bytes, [vec![1; pages(1)], vec![0; pages(1)]].concat());
    // SAFETY: As above, and it is writable.
    unsafe { copy_to_shared(map.as_mut_ptr().wrapping_add(5), &[2; 7]) };
    assert_eq!(
        content_of(&file)[..14],
        [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    );
}
