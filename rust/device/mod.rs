// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/nosigbus`: the ioctls, and the fault handler of opted-in mappings.

mod disable;
mod enable;
mod mapping;
mod vmas;
mod watched_file;

use crate::abstractions::{
    bindings::{
        nosigbus_disable,
        nosigbus_enable,
        nosigbus_query,
        NOSIGBUS_DISABLE,
        NOSIGBUS_ENABLE,
        NOSIGBUS_FEATURE_PRIVATE,
        NOSIGBUS_FEATURE_SHARED_READ,
        NOSIGBUS_FEATURE_SHARED_WRITE,
        NOSIGBUS_QUERY,
        NOSIGBUS_VERSION, //
    },
    device_node::Ioctl,
    fsnotify::Group,
    page_insertion::ZeroPages, //
};
use kernel::{
    ioctl::_IOC_SIZE,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserSlice,
        UserSliceReader,
        UserSliceWriter, //
    },
};
use watched_file::WatchedFile;

/// The bits of `nosigbus_enable.flags` that are known.
const ENABLE_FLAGS: u32 = 0;

/// What all mappings share.
struct Shared {
    zeros: Arc<ZeroPages>,
    watches: Arc<Group<WatchedFile>>,
}

impl Shared {
    /// Sleeps; fails with `ENOMEM`.
    fn new() -> Result<Self> {
        Ok(Self {
            zeros: Arc::new(ZeroPages::new()?, GFP_KERNEL)?,
            watches: Group::new()?,
        })
    }
}

/// The device.
pub(crate) struct NosigbusDevice(Shared);

impl NosigbusDevice {
    /// Allocates what all mappings share. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Shared::new()?))
    }

    fn query(&self, mut writer: UserSliceWriter) -> Result {
        writer.write(&nosigbus_query {
            version: NOSIGBUS_VERSION,
            features: u64::from(
                NOSIGBUS_FEATURE_PRIVATE
                    | NOSIGBUS_FEATURE_SHARED_READ
                    | NOSIGBUS_FEATURE_SHARED_WRITE,
            ),
            enable_flags: u64::from(ENABLE_FLAGS),
            ..Default::default()
        })
    }

    fn enable(&self, mut reader: UserSliceReader) -> Result {
        let request = reader.read::<nosigbus_enable>()?;
        if request.flags & !ENABLE_FLAGS != 0 || request.eventfd != 0 || request.reserved != [0; 3]
        {
            return Err(EINVAL);
        }
        let task = current!();
        let mm = task.mm().ok_or(EINVAL)?;
        enable::enable(mm, request.addr, request.len, &self.0)
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
}

impl Ioctl for NosigbusDevice {
    const NAME: &'static CStr = c"nosigbus";

    fn ioctl(&self, cmd: u32, arg: UserPtr) -> Result {
        let slice = UserSlice::new(arg, _IOC_SIZE(cmd));
        match cmd {
            NOSIGBUS_QUERY => self.query(slice.writer()),
            NOSIGBUS_ENABLE => self.enable(slice.reader()),
            NOSIGBUS_DISABLE => self.disable(slice.reader()),
            _ => Err(ENOTTY),
        }
    }
}
