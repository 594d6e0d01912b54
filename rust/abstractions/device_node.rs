// SPDX-License-Identifier: GPL-2.0-only

//! A misc device that any user may open.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)
//!
//! `kernel::miscdevice` has no way to set the mode of the node in /dev, nor, in 7.2, the owner
//! that keeps the module loaded while the device is open.

use super::bindings;
use core::marker::PhantomPinned;
use kernel::{
    bindings::{
        file,
        file_operations,
        miscdevice, //
    },
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// What a device does.
pub(crate) trait Ioctl: Send + Sync + 'static {
    /// The name of the node in /dev.
    const NAME: &'static CStr;

    /// Handles an ioctl(2), of 64-bit and (with the same layout of structures) 32-bit programs.
    ///
    /// Runs in the calling process, without locks.
    fn ioctl(&self, cmd: u32, arg: UserPtr) -> Result;
}

/// A registered misc device, with mode 0666.
///
/// # Invariants
///
/// `misc` is registered and refers to `fops`, from the end of its initialisation until it is
/// dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct DeviceNode<D: Ioctl> {
    device: D,
    #[pin]
    fops: Opaque<file_operations>,
    #[pin]
    misc: Opaque<miscdevice>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A misc device may be deregistered by another thread than the one that registered it, and
// `D` is `Send`.
unsafe impl<D: Ioctl> Send for DeviceNode<D> {}
// SAFETY: Shared access reaches only `device`, which is `Sync`.
unsafe impl<D: Ioctl> Sync for DeviceNode<D> {}

impl<D: Ioctl> DeviceNode<D> {
    /// Makes the node in /dev. Sleeps.
    pub(crate) fn register(device: D) -> impl PinInit<Self, Error> {
        let fops = file_operations {
            // Keeps the module loaded while the device is open.
            // SAFETY: Has no precondition.
            owner: unsafe { bindings::nosigbus_this_module() },
            unlocked_ioctl: Some(Self::unlocked_ioctl),
            compat_ioctl: kernel::bindings::compat_ptr_ioctl,
            ..pin_init::zeroed()
        };

        try_pin_init!(&this in Self {
            device,
            fops: Opaque::new(fops),
            misc <- Opaque::try_ffi_init(move |slot: *mut miscdevice| {
                let mut misc: miscdevice = pin_init::zeroed();
                misc.minor = kernel::bindings::MISC_DYNAMIC_MINOR as c_int;
                misc.name = D::NAME.as_char_ptr();
                misc.mode = (kernel::bindings::S_IRUGO | kernel::bindings::S_IWUGO) as u16;
                // SAFETY: `this` is being initialised, pinned, and its `fops` is set.
                misc.fops = unsafe { (&raw const (*this.as_ptr()).fops).cast() };

                // SAFETY: `slot` may be written to.
                unsafe { slot.write(misc) };
                // INVARIANT: Registered, if this succeeds.
                // SAFETY: `slot` and what it refers to are pinned, and deregistered in `drop`
                // before they go.
                to_result(unsafe { kernel::bindings::misc_register(slot) })
            }),
            _pin: PhantomPinned,
        })
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the operation of an open file of this device.
    unsafe extern "C" fn unlocked_ioctl(file: *mut file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `misc_open()` has set the private data of an open misc device to its
        // `struct miscdevice`, and nothing here changes it.
        let misc = unsafe { (*file).private_data.cast::<miscdevice>() };
        // SAFETY: That is the `misc` of a `DeviceNode<D>`, since this function is in no other
        // table of operations. It is valid: the open file keeps the module from exiting.
        let node = unsafe {
            &*kernel::container_of!(Opaque::cast_from(misc.cast_const()).cast_mut(), Self, misc)
        };

        match node.device.ioctl(cmd, UserPtr::from_addr(arg)) {
            Ok(()) => 0,
            Err(error) => error.to_errno() as c_long,
        }
    }
}

#[pinned_drop]
impl<D: Ioctl> PinnedDrop for DeviceNode<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants it is registered.
        unsafe { kernel::bindings::misc_deregister(self.misc.get()) };
    }
}
