// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the Rust side of the uAPI of the header that C programs include.

use std::{env, path::Path, process::Command};

fn main() {
    // A link to it; in a package, the file.
    let header = "nosigbus.h";
    println!("cargo::rerun-if-changed={header}");

    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("uapi.rs");
    let status = Command::new("bindgen")
        .arg(header)
        .args(["--allowlist-item", "(nosigbus|NOSIGBUS)_.*", "--use-core"])
        .arg("-o")
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("bindgen {header}: {status}"),
        Err(error) => panic!("cannot run bindgen (Debian package bindgen): {error}"),
    }
}
