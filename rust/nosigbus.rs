// SPDX-License-Identifier: GPL-2.0-only

//! Mappings of files that never raise SIGBUS past end-of-file.
//!
//! A process opts a mapping in through `/dev/nosigbus`
//! (`include/uapi/linux/nosigbus.h`). From then on, a fault past EOF maps a stand-in: the shared
//! zero page, or a zero-filled page of the mapping's own. Every other fault goes to the file system
//! as before.
//!
//! Three layers. [`abstractions`] and [`policy`] do not use each other; [`device`] uses both:
//!
//! - [`abstractions`]: safe types over the kernel's C interfaces. All `unsafe` code is here.
//! - [`policy`]: what to do, decided by plain functions over plain values.
//! - [`device`]: the ioctls and the fault handler, which ask the policy and use the abstractions.

// A number whose type nobody has chosen is an `i32`. User space may make it overflow, and that is a
// BUG() in kernels with CONFIG_RUST_OVERFLOW_CHECKS.
#![warn(clippy::default_numeric_fallback)]

use kernel::prelude::*;

mod abstractions;
mod device;
mod policy;

use abstractions::{
    device_node::DeviceNode,
    module::TextDrain, //
};
use device::{
    MappingsFile,
    NosigbusDevice, //
};

module! {
    type: Nosigbus,
    name: "nosigbus",
    authors: ["The nosigbus developers"],
    description: "Mappings of files that never raise SIGBUS past end-of-file",
    license: "GPL",
}

/// The loaded module: what exists from insmod to rmmod.
#[pin_data]
struct Nosigbus {
    // Fields drop in declaration order: first the user-visible files go, then `TextDrain` waits for
    // tasks that are still in this module's code.
    #[pin]
    _mappings: MappingsFile,
    #[pin]
    node: DeviceNode<NosigbusDevice>,
    _drain: TextDrain,
}

impl kernel::InPlaceModule for Nosigbus {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            node <- DeviceNode::register(NosigbusDevice::new()?),
            // Last: user space can open the debugfs file immediately, and this step cannot fail.
            _mappings <- node.device().mappings_file(),
            _drain: TextDrain,
        })
    }
}
