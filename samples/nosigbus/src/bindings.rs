// SPDX-License-Identifier: MIT OR Apache-2.0

//! What bindgen makes of nosigbus.h; "make bindings" makes it anew.

pub const NOSIGBUS_VERSION: u32 = 1;
pub const NOSIGBUS_FEATURE_PRIVATE: u32 = 1;
pub const NOSIGBUS_FEATURE_SHARED_READ: u32 = 2;
pub const NOSIGBUS_FEATURE_SHARED_WRITE: u32 = 4;
pub const NOSIGBUS_FEATURE_DISABLE: u32 = 8;
pub const NOSIGBUS_FEATURE_STATUS: u32 = 16;
pub const NOSIGBUS_FEATURE_EVENTS: u32 = 32;
pub const NOSIGBUS_RECORD_ERRORS: u32 = 1;
pub const NOSIGBUS_EVENTFD: u32 = 2;
pub const NOSIGBUS_EVENTS: u32 = 4;
pub const NOSIGBUS_CLEAR_ERROR: u32 = 1;
pub const NOSIGBUS_ERROR_DEDUCED: u32 = 1;
pub const NOSIGBUS_EVENT_ZERO_PAGE: u32 = 1;
pub const NOSIGBUS_EVENT_PRIVATE_PAGE: u32 = 2;
pub const NOSIGBUS_EVENT_SHADOW_PAGE: u32 = 3;
pub const NOSIGBUS_EVENT_OVERFLOW: u32 = 4;
pub const NOSIGBUS_EVENT_ERROR: u32 = 1;
pub const NOSIGBUS_IOC_MAGIC: u32 = 187;
pub type __s32 = ::core::ffi::c_int;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct nosigbus_query {
    pub version: __u32,
    pub reserved: __u32,
    pub features: __u64,
    pub enable_flags: __u64,
    pub reserved2: [__u64; 5usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct nosigbus_enable {
    pub addr: __u64,
    pub len: __u64,
    pub flags: __u32,
    pub eventfd: __s32,
    pub cookie: __u64,
    pub reserved: [__u64; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct nosigbus_disable {
    pub addr: __u64,
    pub len: __u64,
    pub reserved: [__u64; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct nosigbus_status {
    pub addr: __u64,
    pub request: __u32,
    pub flags: __u32,
    pub zero_pages: __u64,
    pub private_pages: __u64,
    pub shadow_pages: __u64,
    pub shadow_pages_held: __u64,
    pub given_back: __u64,
    pub errors: __u64,
    pub error_offset: __u64,
    pub error: __u32,
    pub error_flags: __u32,
    pub reserved: [__u64; 6usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct nosigbus_event {
    pub cookie: __u64,
    pub offset: __u64,
    pub kind: __u32,
    pub flags: __u32,
    pub reserved: __u64,
}
