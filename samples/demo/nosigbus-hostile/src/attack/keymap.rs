// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keymaps, which a client passes by file, for a virtual keyboard.

use super::{race::Race, stage};
use crate::{
    Options,
    heard::Heard,
    pool::{Place, Pool},
    session::Session,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    time::Instant,
};
use wayland_client::{
    delegate_noop,
    protocol::{wl_keyboard::KeymapFormat, wl_seat::WlSeat},
};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::{
    zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1,
    zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1,
};

/// The file size that the client tells the compositor.
const SIZE: u32 = 1 << 16;
/// The real size of a file that is too short.
const SHORT: usize = 4096;
const LONG: usize = 1 << 20;

/// How many mappings a process may have.
const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";
/// How many pools there are beyond half of that. The library counts mappings only now and then.
const MORE: usize = 2048;
const SMALL: i32 = 1 << 12;
/// How many pools are made at a time.
const AT_A_TIME: usize = 50;

/// Returns a valid keymap of `len` bytes: spaces before the text, and no zero at its end.
fn text(len: usize) -> String {
    let text = "xkb_keymap { xkb_keycodes { <A> = 38; }; xkb_types { }; xkb_compatibility { }; \
                xkb_symbols { key <A> { [ a ] }; }; };";
    " ".repeat(len.saturating_sub(text.len())) + text
}

struct Keyboard(ZwpVirtualKeyboardV1);

impl Keyboard {
    fn new(session: &Session) -> Result<Self> {
        let manager: ZwpVirtualKeyboardManagerV1 = session.bind(1..=1)?;
        let seat: WlSeat = session.bind(1..=5)?;
        let keyboard = manager.create_virtual_keyboard(&seat, &session.handle, ());
        Ok(Self(keyboard))
    }

    fn keymap(&self, file: &File, size: u32) {
        self.0
            .keymap(KeymapFormat::XkbV1.into(), file.as_fd(), size);
    }

    fn press(&self) {
        for pressed in [1, 0] {
            self.0.key(0, 30, pressed);
        }
    }
}

/// Prints whether the compositor maps keymaps. It passes a valid keymap, in a file of the right
/// size. The bytes after the text have no page until they are accessed.
fn see_if_mapped(options: &Options) -> Result<()> {
    if !options.verbose || !options.place.is_memory() {
        return Ok(());
    }
    // Uses a connection of its own, because a compositor may refuse the keymap.
    let mut session = Session::connect(Some(options.patience))?;
    let keyboard = Keyboard::new(&session)?;
    let file = options.place.create()?;
    file.write_all_at(text(SHORT).as_bytes(), 0)?;
    file.set_len(SIZE.into())?;
    let written = stage::allocated(&file)?;
    keyboard.keymap(&file, SIZE);
    let result = session.roundtrip();
    options.tell(if stage::allocated(&file)? > written {
        "the compositor maps keymaps"
    } else {
        "the compositor does not map keymaps, or only looks at their text"
    });
    if let Err(error) = result {
        options.tell(&format!("a valid keymap: {error}"));
    }
    Ok(())
}

/// Passes a new file, and uses the keyboard. `make_ready` gets the file before.
fn pass(
    session: &mut Session,
    options: &Options,
    what: &str,
    make_ready: impl FnOnce(&File) -> io::Result<()>,
) -> Result<()> {
    let keyboard = Keyboard::new(session)?;
    see_if_mapped(options)?;
    let file = options.place.create()?;
    make_ready(&file).context("the keymap's file")?;
    session.struck = true;
    keyboard.keymap(&file, SIZE);
    options.tell(&format!("a keymap of {what}, said to have {SIZE} bytes"));
    session.roundtrip()?;
    keyboard.press();
    session.roundtrip()
}

pub fn empty(session: &mut Session, options: &Options) -> Result<()> {
    pass(session, options, "0 bytes", |_| Ok(()))
}

/// The file is too short, and has no zero that ends the text.
pub fn short(session: &mut Session, options: &Options) -> Result<()> {
    pass(session, options, &format!("{SHORT} bytes"), |file| {
        file.write_all_at(text(SHORT).as_bytes(), 0)
    })
}

/// The file has no page, and cannot have one, if the directory is full.
pub fn full(session: &mut Session, options: &Options) -> Result<()> {
    ensure!(!options.place.is_memory(), "this takes a --dir DIR");
    pass(session, options, "a hole", |file| file.set_len(SIZE.into()))
}

/// The compositor has so many mappings by then that the library of `nosigbus run` may stop opting
/// further ones in.
pub fn after_many(session: &mut Session, options: &Options) -> Result<()> {
    // A compositor without keyboards is not attacked.
    Keyboard::new(session)?;
    let limit = fs::read_to_string(MAX_MAP_COUNT).context(MAX_MAP_COUNT)?;
    let limit: usize = limit.trim().parse().context(MAX_MAP_COUNT)?;
    let file = Place::Memory.create()?;
    file.set_len(SMALL as u64).context("ftruncate")?;
    let pools = limit / 2 + MORE;
    for number in 0..pools {
        Pool::new(session, file.try_clone()?, SMALL)?;
        if number % AT_A_TIME == 0 {
            session.roundtrip()?;
        }
    }
    session.roundtrip()?;
    options.tell(&format!("{pools} pools"));
    empty(session, options)
}

/// The file is cut off, and written again, while it is parsed.
pub fn race(session: &mut Session, options: &Options) -> Result<()> {
    let keyboard = Keyboard::new(session)?;
    see_if_mapped(options)?;
    let file = options.place.create()?;
    let content = text(LONG) + "\0";
    file.write_all_at(content.as_bytes(), 0)?;
    session.struck = true;
    let changed = file.try_clone().context("dup")?;
    let size = content.len() as u32;
    let race = Race::start(move || {
        changed.set_len(0)?;
        changed.write_all_at(content.as_bytes(), 0)
    });
    let end = Instant::now() + options.seconds;
    let mut passed = 0;
    while Instant::now() < end {
        keyboard.keymap(&file, size);
        session.roundtrip()?;
        passed += 1;
    }
    options.tell(&format!(
        "{passed} keymaps while their file was cut and written"
    ));
    race.finish()
}

delegate_noop!(Heard: ZwpVirtualKeyboardManagerV1);
delegate_noop!(Heard: ZwpVirtualKeyboardV1);
