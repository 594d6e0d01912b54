// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changes a file all the time that the compositor uses it.

use anyhow::{Context, Result};
use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A thread that does one thing again and again, until this is dropped.
pub struct Race {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Race {
    pub fn start(mut turn: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn()?;
            }
            Ok(())
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Shrinks a file to nothing and makes it as long as it was.
    pub fn cut_and_regrow(file: &File) -> Result<Self> {
        let file = file.try_clone()?;
        let len = file.metadata().context("fstat")?.len();
        Ok(Self::start(move || {
            file.set_len(0).and_then(|()| file.set_len(len))
        }))
    }

    /// Ends the thread. Returns an error if the thread has ended before, because of an error.
    pub fn finish(mut self) -> Result<()> {
        self.end()
            .context("the file could not be changed all the time")
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        // Without `finish`, another error is on its way already.
        let _ = self.end();
    }
}
