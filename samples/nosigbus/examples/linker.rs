// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes a file through a mapping, as a linker does, and says if the disk is full.
//!
//! usage: linker FILE BYTES

use nosigbus::{Device, MapOptions};
use std::{env, error::Error, fs::File, process::ExitCode};

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let (Some(path), Some(len)) = (args.next(), args.next()) else {
        return Err("usage: linker FILE BYTES".into());
    };
    let len: usize = len.to_str().ok_or("BYTES must be a number")?.parse()?;

    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(len as u64)?;
    let output = MapOptions::new(len)
        .write(true)
        .record_errors(true)
        .map(&Device::open()?, &file)?;
    for offset in (0..len).step_by(4096) {
        output.write_at(offset, &[b'x'; 4096][..4096.min(len - offset)])?;
    }

    // Fails if the disk is full, or if somebody has cut the file off.
    output.close()?;
    // Fails if the file system cannot write the pages back.
    file.sync_all()?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linker: {error}");
            ExitCode::FAILURE
        }
    }
}
