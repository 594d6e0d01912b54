// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts the lines of a file that memmap2 has mapped. If the file is shortened meanwhile, counts
//! the lines that are left.
//!
//! usage: existing FILE

use memmap2::Mmap;
use nosigbus::Device;
use std::{env, error::Error, fs::File, process::ExitCode};

fn run() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: existing FILE")?;
    // SAFETY: As in any program that uses memmap2: nobody writes to the file.
    let map = unsafe { Mmap::map(&File::open(path)?) }?;
    let map = Device::open()?.protect(map)?;

    let lines = map.iter().filter(|&&byte| byte == b'\n').count();
    println!("{lines} lines");
    if map.status()?.stand_ins() > 0 {
        println!("and somebody has cut the file off");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("existing: {error}");
            ExitCode::FAILURE
        }
    }
}
