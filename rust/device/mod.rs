// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/nosigbus`: dispatch of the ioctls and checks of their arguments. The fault handler is in
//! `mapping.rs`.
//!
//! Documentation/contributing.rst lists each file that a new ioctl takes.

#![forbid(unsafe_code)]

mod disable;
mod enable;
mod errors;
mod events;
mod mapping;
mod mapping_state;
mod registry;
mod status;
mod vmas;
mod watched_file;

use crate::abstractions::{
    bindings::{
        nosigbus_disable,
        nosigbus_enable,
        nosigbus_query,
        nosigbus_status,
        NOSIGBUS_CLEAR_ERROR,
        NOSIGBUS_DISABLE,
        NOSIGBUS_ENABLE,
        NOSIGBUS_EVENTFD,
        NOSIGBUS_EVENTS,
        NOSIGBUS_FEATURE_DISABLE,
        NOSIGBUS_FEATURE_EVENTS,
        NOSIGBUS_FEATURE_PRIVATE,
        NOSIGBUS_FEATURE_SHARED_READ,
        NOSIGBUS_FEATURE_SHARED_WRITE,
        NOSIGBUS_FEATURE_STATUS,
        NOSIGBUS_QUERY,
        NOSIGBUS_RECORD_ERRORS,
        NOSIGBUS_STATUS,
        NOSIGBUS_VERSION, //
    },
    debugfs::DebugFile,
    device_node::Device,
    eventfd::EventFd,
    fsnotify::Group,
    page_insertion::CowSources,
    task::has_signal, //
};
use events::Queue;
use kernel::{
    fs::File,
    ioctl::_IOC_SIZE,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    },
    uaccess::{
        UserSlice,
        UserSliceReader,
        UserSliceWriter, //
    },
};
use registry::{
    List,
    Registry, //
};
use status::Found;
use watched_file::WatchedFile;

/// Flags that ENABLE accepts.
const ENABLE_FLAGS: u32 = if cfg!(CONFIG_EVENTFD) {
    NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTS | NOSIGBUS_EVENTFD
} else {
    NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTS
};

/// What all opted-in mappings share.
struct Shared {
    cow_sources: CowSources,
    fsnotify_group: Arc<Group<WatchedFile>>,
    registry: Registry,
}

impl Shared {
    /// Sleeps; fails with `ENOMEM`.
    fn new() -> Result<Arc<Self>> {
        let shared = Self {
            cow_sources: CowSources::new()?,
            fsnotify_group: Group::new()?,
            registry: Registry::new()?,
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }
}

/// The state of one open file of the device.
pub(crate) struct Opened {
    /// The mappings that were opted in by it.
    mappings: Arc<List>,
    /// Their events.
    events: Arc<Queue>,
}

impl Opened {
    /// Sleeps; fails with `ENOMEM`.
    fn new() -> Result<Self> {
        Ok(Self {
            mappings: List::new()?,
            events: Queue::new()?,
        })
    }
}

/// The list of all opted-in mappings in debugfs.
pub(crate) type MappingsFile = DebugFile<Arc<List>>;

/// The device.
pub(crate) struct NosigbusDevice(Arc<Shared>);

impl NosigbusDevice {
    /// Allocates what all mappings share. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Shared::new()?))
    }

    /// Has debugfs list all opted-in mappings. Sleeps.
    pub(crate) fn mappings_file(&self) -> impl PinInit<MappingsFile> + use<> {
        DebugFile::new(c"nosigbus", c"mappings", self.0.registry.all().clone())
    }

    fn query(&self, mut writer: UserSliceWriter) -> Result {
        writer.write(&nosigbus_query {
            version: NOSIGBUS_VERSION,
            features: u64::from(
                NOSIGBUS_FEATURE_PRIVATE
                    | NOSIGBUS_FEATURE_SHARED_READ
                    | NOSIGBUS_FEATURE_SHARED_WRITE
                    | NOSIGBUS_FEATURE_DISABLE
                    | NOSIGBUS_FEATURE_STATUS
                    | NOSIGBUS_FEATURE_EVENTS,
            ),
            enable_flags: u64::from(ENABLE_FLAGS),
            ..Default::default()
        })
    }

    fn enable(&self, opened: &Opened, mut reader: UserSliceReader) -> Result {
        let request = reader.read::<nosigbus_enable>()?;
        let has_eventfd = request.flags & NOSIGBUS_EVENTFD != 0;
        let has_cookie = request.flags & NOSIGBUS_EVENTS != 0;
        if request.flags & !ENABLE_FLAGS != 0
            || (!has_eventfd && request.eventfd != 0_i32)
            || (!has_cookie && request.cookie != 0)
            || request.reserved != [0; 2]
        {
            return Err(EINVAL);
        }
        let eventfd = if has_eventfd {
            Some(Arc::new(
                EventFd::from_fd(request.eventfd)?,
                GFP_KERNEL_ACCOUNT,
            )?)
        } else {
            None
        };
        let task = current!();
        let mm = task.mm().ok_or(EINVAL)?;
        let request = enable::Request {
            addr: request.addr,
            len: request.len,
            record_errors: request.flags & NOSIGBUS_RECORD_ERRORS != 0,
            eventfd,
            cookie: has_cookie.then_some(request.cookie),
        };
        enable::enable(mm, &request, opened, &self.0)
    }

    fn disable(&self, mut reader: UserSliceReader) -> Result {
        let request = reader.read::<nosigbus_disable>()?;
        if request.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let task = current!();
        let mm = task.mm().ok_or(EINVAL)?;
        disable::disable(mm, request.addr, request.len)
    }

    fn status(&self, arg: UserPtr) -> Result {
        let request = UserSlice::new(arg, size_of::<nosigbus_status>())
            .reader()
            .read::<nosigbus_status>()?;
        if request.request & !NOSIGBUS_CLEAR_ERROR != 0 || request.reserved != [0; 6] {
            return Err(EINVAL);
        }
        let task = current!();
        let mm = task.mm().ok_or(EINVAL)?;
        let found = Found::at(mm, request.addr)?;
        let report = || -> Result<nosigbus_status> {
            let reported = nosigbus_status {
                addr: request.addr,
                request: request.request,
                ..found.state().status()
            };
            UserSlice::new(arg, size_of::<nosigbus_status>())
                .writer()
                .write(&reported)?;
            Ok(reported)
        };
        // Copy the status to user space before anything changes: the copy may fail.
        report()?;
        // From here on a new stand-in signals an event again, since this status may not include it.
        found.state().arm();
        loop {
            let reported = report()?;
            if request.request & NOSIGBUS_CLEAR_ERROR == 0 || found.clear_error(&reported)? {
                return Ok(());
            }
            // Another error was recorded after the copy to user space. Report it before clearing.
            if has_signal() {
                return Err(EINTR);
            }
        }
    }
}

impl Device for NosigbusDevice {
    const NAME: &'static CStr = c"nosigbus";

    type Opened = Opened;

    fn open(&self) -> Result<Opened> {
        Opened::new()
    }

    fn ioctl(&self, opened: &Opened, cmd: u32, arg: UserPtr) -> Result {
        let slice = UserSlice::new(arg, _IOC_SIZE(cmd));
        match cmd {
            NOSIGBUS_QUERY => self.query(slice.writer()),
            NOSIGBUS_ENABLE => self.enable(opened, slice.reader()),
            NOSIGBUS_DISABLE => self.disable(slice.reader()),
            NOSIGBUS_STATUS => self.status(arg),
            _ => Err(ENOTTY),
        }
    }

    fn read(opened: &Opened, writer: UserSliceWriter, nonblocking: bool) -> Result<usize> {
        opened.events.read(writer, nonblocking)
    }

    fn poll(opened: &Opened, file: &File, table: &PollTable<'_>) -> bool {
        opened.events.poll(file, table)
    }

    fn release(opened: &Opened) {
        opened.events.close();
    }

    fn show_fdinfo(&self, opened: &Opened, seq: &SeqFile) {
        opened.mappings.show_fdinfo(seq);
    }
}
