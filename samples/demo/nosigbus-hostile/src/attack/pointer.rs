// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pictures at the pointer: a cursor, and the icon of a drag. There is no user, so a protocol for
//! virtual pointers moves the pointer.

use super::stage::{self, Stage};
use crate::{
    Options,
    heard::Heard,
    pool::{self, Pool},
    session::{NotOffered, Session, on_event},
};
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;
use wayland_client::{
    WEnum, delegate_noop,
    protocol::{
        wl_buffer::WlBuffer,
        wl_compositor::WlCompositor,
        wl_data_device::{self, WlDataDevice},
        wl_data_device_manager::WlDataDeviceManager,
        wl_data_offer::WlDataOffer,
        wl_data_source::WlDataSource,
        wl_output::WlOutput,
        wl_pointer::{self, ButtonState, WlPointer},
        wl_seat::{self, Capability, WlSeat},
        wl_surface::WlSurface,
    },
};
use wayland_protocols_plasma::fake_input::client::org_kde_kwin_fake_input::OrgKdeKwinFakeInput;
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

/// Linux's BTN_LEFT.
const LEFT: u32 = 0x110;
/// The size of cursors and icons.
const SIZE: (i32, i32) = (32, 32);
/// The search for the window tries this many places per line, and this many lines.
const PLACES: i32 = 8;
const A_MOMENT: Duration = Duration::from_millis(100);

/// How the pointer is moved.
enum Hand {
    Wlr(ZwlrVirtualPointerV1),
    Kde(OrgKdeKwinFakeInput),
    /// This client cannot move the pointer. Something else may.
    None,
}

impl Hand {
    fn new(session: &Session, seat: &WlSeat) -> Self {
        if let Ok(manager) = session.bind::<ZwlrVirtualPointerManagerV1>(1..=2) {
            return Self::Wlr(manager.create_virtual_pointer(Some(seat), &session.handle, ()));
        }
        if let Ok(input) = session.bind::<OrgKdeKwinFakeInput>(3..=4) {
            input.authenticate("nosigbus-hostile".into(), "a test".into());
            return Self::Kde(input);
        }
        Self::None
    }

    /// Moves the pointer, in an output of that size.
    fn move_to(&self, (x, y): (i32, i32), (width, height): (i32, i32)) {
        match self {
            Self::Wlr(pointer) => {
                pointer.motion_absolute(0, x as u32, y as u32, width as u32, height as u32);
                pointer.frame();
            }
            Self::Kde(input) => input.pointer_motion_absolute(x.into(), y.into()),
            Self::None => {}
        }
    }

    fn press(&self, state: ButtonState) {
        match self {
            Self::Wlr(pointer) => {
                pointer.button(0, LEFT, state);
                pointer.frame();
            }
            Self::Kde(input) => input.button(LEFT, state.into()),
            Self::None => {}
        }
    }
}

/// A pointer over a window.
struct Pointer {
    seat: WlSeat,
    proxy: WlPointer,
    hand: Hand,
    output: (i32, i32),
    /// Where it is.
    place: (i32, i32),
}

impl Pointer {
    fn over_the_window(session: &mut Session, options: &Options) -> Result<Self> {
        let seat: WlSeat = session.bind(1..=5)?;
        let _output: WlOutput = session.bind(1..=1)?;
        let hand = Hand::new(session, &seat);
        session.roundtrip()?;
        // The seat needs a moment to get the new pointer.
        if !session.wait_at_most(10 * A_MOMENT, |heard| heard.seat.has_pointer)? {
            bail!(NotOffered(hand.missing()));
        }
        let mut pointer = Self {
            proxy: seat.get_pointer(&session.handle, ()),
            seat,
            hand,
            output: session.heard.output.unwrap_or((1024, 768)),
            place: (0, 0),
        };
        let (width, height) = pointer.output;
        let middle = PLACES / 2;
        let places = (0..PLACES * PLACES).map(|place| (place % PLACES, place / PLACES));
        for (column, line) in [(middle, middle)].into_iter().chain(places) {
            let x = (2 * column + 1) * width / (2 * PLACES);
            let y = (2 * line + 1) * height / (2 * PLACES);
            pointer.move_to(session, (x, y))?;
            if session.wait_at_most(A_MOMENT, |heard| heard.seat.entered.is_some())? {
                break;
            }
        }
        match session.heard.seat.entered {
            Some(_) => {}
            None if matches!(pointer.hand, Hand::None) => {
                bail!(NotOffered(pointer.hand.missing()));
            }
            None => bail!("the pointer is nowhere over the window"),
        }
        options.tell("the pointer is over the window");
        Ok(pointer)
    }

    fn move_to(&mut self, session: &mut Session, place: (i32, i32)) -> Result<()> {
        self.place = place;
        self.hand.move_to(place, self.output);
        session.roundtrip()
    }

    /// Moves it a little to and fro.
    fn shake(&mut self, session: &mut Session) -> Result<()> {
        let (x, y) = self.place;
        for place in [(x + 2, y + 2), (x, y)] {
            self.move_to(session, place)?;
            session.wait_at_most(A_MOMENT / 2, |_| false)?;
        }
        Ok(())
    }
}

impl Hand {
    /// Returns the interface that is missing if the pointer cannot be moved.
    fn missing(&self) -> &'static str {
        match self {
            Self::Wlr(_) | Self::Kde(_) => "wl_pointer",
            Self::None => "zwlr_virtual_pointer_manager_v1",
        }
    }
}

/// The cursor or drag icon.
struct Carried {
    surface: WlSurface,
    pool: Pool,
    buffer: WlBuffer,
    /// If it is a cursor.
    cursor_of: Option<WlPointer>,
}

impl Carried {
    fn new(session: &Session, options: &Options, cursor_of: Option<WlPointer>) -> Result<Self> {
        let compositor: WlCompositor = session.bind(1..=4)?;
        let file = options.place.create()?;
        let bytes = pool::bytes(SIZE);
        file.set_len(bytes as u64).context("ftruncate")?;
        let pool = Pool::new(session, file, bytes)?;
        Ok(Self {
            surface: compositor.create_surface(&session.handle, ()),
            buffer: pool.buffer(session, 0, SIZE),
            pool,
            cursor_of,
        })
    }

    fn commit(&self, session: &Session) {
        // Each time, as the pointer may have left and come back.
        if let (Some(pointer), Some(serial)) = (&self.cursor_of, session.heard.seat.entered) {
            pointer.set_cursor(serial, Some(&self.surface), 0, 0);
        }
        self.surface.attach(Some(&self.buffer), 0, 0);
        self.surface.damage(0, 0, SIZE.0, SIZE.1);
        self.surface.commit();
    }

    /// Moves it until the compositor has read it, shrinks its file, and moves it again.
    fn shrink(
        &self,
        session: &mut Session,
        options: &Options,
        pointer: &mut Pointer,
        stage: &mut Stage,
    ) -> Result<()> {
        stage::touched(options, session, &self.pool.file, 0, |session| {
            self.commit(session);
            stage.refresh(session)?;
            pointer.shake(session)
        })?;
        pool::draw(&self.pool.file, options.color, pool::bytes(SIZE), 0)?;
        self.commit(session);
        pointer.shake(session)?;
        session.struck = true;
        self.pool.shrink()?;
        options.tell("its file has no pages any more");
        // First the picture that is shown already, then one that is marked as changed.
        for _ in 0..3 {
            pointer.shake(session)?;
            stage.refresh(session)?;
        }
        for _ in 0..10 {
            self.commit(session);
            pointer.shake(session)?;
            stage.refresh(session)?;
        }
        Ok(())
    }
}

pub fn cursor(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    let mut pointer = Pointer::over_the_window(session, options)?;
    let cursor = Carried::new(session, options, Some(pointer.proxy.clone()))?;
    cursor.shrink(session, options, &mut pointer, &mut stage)?;
    if let Some(serial) = session.heard.seat.entered {
        pointer.proxy.set_cursor(serial, None, 0, 0);
    }
    pointer.shake(session)?;
    cursor.commit(session);
    pointer.shake(session)
}

pub fn drag_icon(session: &mut Session, options: &Options) -> Result<()> {
    let manager: WlDataDeviceManager = session.bind(1..=3)?;
    let mut stage = Stage::new(session, options)?;
    let mut pointer = Pointer::over_the_window(session, options)?;
    pointer.hand.press(ButtonState::Pressed);
    session.roundtrip()?;
    let pressed = session.wait_at_most(options.patience, |heard| heard.seat.pressed.is_some())?;
    ensure!(pressed, "no button could be pressed");
    let serial = session.heard.seat.pressed.unwrap_or_default();

    let icon = Carried::new(session, options, None)?;
    let handle = session.handle.clone();
    let source = manager.create_data_source(&handle, ());
    source.offer("text/plain".into());
    let device = manager.get_data_device(&pointer.seat, &handle, ());
    let origin = &stage.window.surface.clone();
    device.start_drag(Some(&source), origin, Some(&icon.surface), serial);
    icon.shrink(session, options, &mut pointer, &mut stage)?;
    pointer.hand.press(ButtonState::Released);
    pointer.shake(session)
}

on_event!(WlSeat, (), |heard, _proxy, event, _user| {
    if let wl_seat::Event::Capabilities {
        capabilities: WEnum::Value(capabilities),
    } = event
    {
        heard.seat.has_pointer = capabilities.contains(Capability::Pointer);
    }
});

on_event!(WlPointer, (), |heard, _proxy, event, _user| match event {
    wl_pointer::Event::Enter { serial, .. } => heard.seat.entered = Some(serial),
    wl_pointer::Event::Leave { .. } => heard.seat.entered = None,
    wl_pointer::Event::Button {
        serial,
        state: WEnum::Value(ButtonState::Pressed),
        ..
    } => heard.seat.pressed = Some(serial),
    _ => {}
});

on_event!(
    WlDataDevice,
    (),
    |_heard, _proxy, _event, _user| {},
    wl_data_device::EVT_DATA_OFFER_OPCODE => WlDataOffer, ()
);

delegate_noop!(Heard: WlDataDeviceManager);
delegate_noop!(Heard: ignore WlDataOffer);
delegate_noop!(Heard: ignore WlDataSource);
delegate_noop!(Heard: ZwlrVirtualPointerManagerV1);
delegate_noop!(Heard: ZwlrVirtualPointerV1);
delegate_noop!(Heard: OrgKdeKwinFakeInput);
