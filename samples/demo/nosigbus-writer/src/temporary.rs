// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file with a temporary name until it is complete, so that an older file is not lost.

use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process,
};

pub struct Temporary {
    pub file: File,
    path: PathBuf,
}

impl Temporary {
    /// Creates a file in the directory of `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = path
            .file_name()
            .with_context(|| format!("{} does not end in a file name", path.display()))?
            .to_owned();
        name.push(format!(".{}.part", process::id()));
        let path = path.with_file_name(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self { file, path })
    }

    /// Gives the file its name. Without this it is removed.
    pub fn rename(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).context("rename")?;
        self.path.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("nosigbus-writer: {}: {error}", self.path.display());
        }
    }
}
