// SPDX-License-Identifier: GPL-2.0-only

//! A misc device that any user may open.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)
//!
//! `kernel::miscdevice` has no way to set the mode of the node in /dev, and no poll(2).

use super::bindings;
use core::marker::PhantomPinned;
use kernel::{
    bindings::{
        file,
        file_operations,
        inode,
        loff_t,
        miscdevice,
        poll_table_struct,
        seq_file, //
    },
    error::to_result,
    fs::{
        file::flags::O_NONBLOCK,
        File,
        LocalFile, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::poll::PollTable,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    uaccess::{
        UserSlice,
        UserSliceWriter, //
    },
};

/// The operations of a device.
pub(crate) trait Device: Send + Sync + 'static {
    /// The name of the node in /dev.
    const NAME: &'static CStr;

    /// Per-open state of the device file (C: `file->private_data`).
    type Opened: Send + Sync + 'static;

    /// Opens the device. May sleep.
    fn open(&self) -> Result<Self::Opened>;

    /// Handles an ioctl(2), of 64-bit and (with the same layout of structures) 32-bit programs.
    ///
    /// Runs in the calling process, without locks.
    fn ioctl(&self, opened: &Self::Opened, cmd: u32, arg: UserPtr) -> Result;

    /// Handles a read(2): writes to `writer`, and returns how many bytes. Waits for something to be
    /// there, unless `nonblocking`. May sleep.
    fn read(opened: &Self::Opened, writer: UserSliceWriter, nonblocking: bool) -> Result<usize>;

    /// Whether there is something to be read. Registers `table`, so that it learns when there is.
    /// May sleep.
    fn poll(opened: &Self::Opened, file: &File, table: &PollTable<'_>) -> bool;

    /// The last reference on the open file is gone.
    fn release(opened: &Self::Opened);

    /// Prints what /proc/PID/fdinfo shows of an open file. Called again with a larger buffer if it
    /// did not fit. May sleep.
    fn show_fdinfo(&self, opened: &Self::Opened, seq: &SeqFile);
}

/// An open file of the device.
struct OpenFile<D: Device> {
    /// Valid: the open file keeps the module from exiting, and the node is dropped only when the
    /// module exits (see [`DeviceNode::register`]).
    node: *const DeviceNode<D>,
    opened: D::Opened,
}

// SAFETY: `DeviceNode<D>` may be used by any thread, and so may `opened`.
unsafe impl<D: Device> Send for OpenFile<D> {}
// SAFETY: Through `&OpenFile`, tasks only get `&D` and `&D::Opened`, and both are `Sync`.
unsafe impl<D: Device> Sync for OpenFile<D> {}

/// A registered misc device, with mode 0666.
///
/// # Invariants
///
/// `misc` is registered and refers to `fops`, from the end of its initialisation until it is
/// dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct DeviceNode<D: Device> {
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
unsafe impl<D: Device> Send for DeviceNode<D> {}
// SAFETY: Shared access reaches only `device`, which is `Sync`.
unsafe impl<D: Device> Sync for DeviceNode<D> {}

impl<D: Device> DeviceNode<D> {
    /// Makes the node in /dev. Sleeps.
    ///
    /// Programs can open the device as soon as this succeeds, and an open file refers to the node.
    /// So the owner must not drop it before the module's exit function: no later step of the
    /// module's initialisation may fail.
    pub(crate) fn register(device: D) -> impl PinInit<Self, Error> {
        let fops = file_operations {
            // Keeps the module loaded while the device is open.
            // SAFETY: Has no precondition.
            owner: unsafe { bindings::nosigbus_this_module() },
            open: Some(Self::open),
            release: Some(Self::release),
            read: Some(Self::read),
            poll: Some(Self::poll),
            show_fdinfo: Some(Self::show_fdinfo),
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

    /// The device.
    pub(crate) fn device(&self) -> &D {
        &self.device
    }

    /// # Safety
    ///
    /// To be called by `misc_open()`, as the operation of this device.
    unsafe extern "C" fn open(inode: *mut inode, file: *mut file) -> c_int {
        // SAFETY: `misc_open()` has set the private data to the device's `struct miscdevice`.
        let misc = unsafe { (*file).private_data.cast::<miscdevice>() };
        // SAFETY: That is the `misc` of a `DeviceNode<D>`, since this function is in no other
        // table of operations. It is valid: the file that is being opened keeps the module from
        // exiting.
        let node = unsafe {
            &*kernel::container_of!(Opaque::cast_from(misc.cast_const()).cast_mut(), Self, misc)
        };

        let open_file = node
            .device
            .open()
            .and_then(|opened| Ok(KBox::new(OpenFile { node, opened }, GFP_KERNEL_ACCOUNT)?));
        match open_file {
            Ok(open_file) => {
                // SAFETY: The file is being opened, so no other task uses it yet.
                unsafe { (*file).private_data = open_file.into_foreign() };
                // Make it a stream file: without `FMODE_ATOMIC_POS` a blocking read(2) does not
                // hold `f_pos_lock`.
                // SAFETY: The VFS passes a valid inode and a file that it is opening.
                unsafe { kernel::bindings::stream_open(inode, file) }
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the last operation of a file that `open` has opened.
    unsafe extern "C" fn release(_inode: *mut inode, file: *mut file) -> c_int {
        // SAFETY: `open` has set `private_data` to a `KBox<OpenFile<D>>`. This is the last
        // operation of the file, so no other task borrows it.
        let this = unsafe { KBox::<OpenFile<D>>::from_foreign((*file).private_data) };
        D::release(&this.opened);
        0
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the operation of a file that `open` has opened.
    unsafe extern "C" fn read(
        file: *mut file,
        buffer: *mut c_char,
        len: usize,
        _position: *mut loff_t,
    ) -> isize {
        // SAFETY: `open` has set `private_data` to a `KBox<OpenFile<D>>`. `release`, which takes it
        // back, has not been called.
        let this = unsafe { KBox::<OpenFile<D>>::borrow((*file).private_data) };
        // SAFETY: The VFS has the file open. Other threads may be in `fdget_pos()` without
        // `f_pos_lock`. That lock protects only the position, which a stream file does not have
        // (`stream_open()`).
        let flags = unsafe { LocalFile::from_raw_file(file) }.flags();
        let nonblocking = flags & O_NONBLOCK != 0;
        let writer = UserSlice::new(UserPtr::from_ptr(buffer.cast()), len).writer();

        match D::read(&this.opened, writer, nonblocking) {
            Ok(bytes) => bytes as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the operation of a file that `open` has opened.
    unsafe extern "C" fn poll(file: *mut file, table: *mut poll_table_struct) -> u32 {
        // SAFETY: `open` has set `private_data` to a `KBox<OpenFile<D>>`. `release`, which takes it
        // back, has not been called.
        let this = unsafe { KBox::<OpenFile<D>>::borrow((*file).private_data) };
        // SAFETY: The VFS has the file open, and passes a table that is null or valid. `f_pos_lock`
        // protects only the position, which a stream file does not have (`stream_open()`).
        let (file, table) = unsafe { (File::from_raw_file(file), PollTable::from_raw(table)) };

        if D::poll(&this.opened, file, &table) {
            kernel::bindings::POLLIN | kernel::bindings::POLLRDNORM
        } else {
            0
        }
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the operation of a file that `open` has opened.
    unsafe extern "C" fn show_fdinfo(seq: *mut seq_file, file: *mut file) {
        // SAFETY: `open` has set `private_data` to a `KBox<OpenFile<D>>`. `release`, which takes it
        // back, has not been called.
        let this = unsafe { KBox::<OpenFile<D>>::borrow((*file).private_data) };
        // SAFETY: The open file keeps the module, and so the node (see `OpenFile::node`). The VFS
        // passes a valid `seq`, which no other task uses during this call.
        let (node, seq) = unsafe { (&*this.node, SeqFile::from_raw(seq)) };
        node.device.show_fdinfo(&this.opened, seq);
    }

    /// # Safety
    ///
    /// To be called by the VFS, as the operation of a file that `open` has opened.
    unsafe extern "C" fn unlocked_ioctl(file: *mut file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `open` has set `private_data` to a `KBox<OpenFile<D>>`. `release`, which takes it
        // back, has not been called.
        let this = unsafe { KBox::<OpenFile<D>>::borrow((*file).private_data) };
        // SAFETY: The open file keeps the module, and so the node (see `OpenFile::node`).
        let node = unsafe { &*this.node };

        match node
            .device
            .ioctl(&this.opened, cmd, UserPtr::from_addr(arg))
        {
            Ok(()) => 0,
            Err(error) => error.to_errno() as c_long,
        }
    }
}

#[pinned_drop]
impl<D: Device> PinnedDrop for DeviceNode<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants it is registered.
        unsafe { kernel::bindings::misc_deregister(self.misc.get()) };
    }
}
