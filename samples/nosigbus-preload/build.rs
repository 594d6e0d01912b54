// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the Rust side of the uAPI, and of PROCMAP_QUERY, of the headers that C programs include.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=kernel.h");
    println!("cargo::rerun-if-changed=../../include/uapi/linux/nosigbus.h");

    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernel.rs");
    let status = Command::new("bindgen")
        .arg("kernel.h")
        .args(["--allowlist-item", "(nosigbus|NOSIGBUS|procmap_query)_?.*"])
        .args(["--no-prepend-enum-name", "--with-derive-default"])
        .arg("-o")
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("bindgen kernel.h: {status}"),
        Err(error) => panic!("cannot run bindgen (Debian package bindgen): {error}"),
    }
}
