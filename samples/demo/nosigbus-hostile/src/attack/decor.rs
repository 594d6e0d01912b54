// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pictures that belong to a window: its icon, and its shadow.

use super::stage::{self, Stage};
use crate::{
    Options,
    heard::Heard,
    pool::{self, Pool},
    session::Session,
};
use anyhow::{Context, Result};
use wayland_client::{delegate_noop, protocol::wl_buffer::WlBuffer};
use wayland_protocols::xdg::toplevel_icon::v1::client::{
    xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1, xdg_toplevel_icon_v1::XdgToplevelIconV1,
};
use wayland_protocols_plasma::shadow::client::{
    org_kde_kwin_shadow::OrgKdeKwinShadow, org_kde_kwin_shadow_manager::OrgKdeKwinShadowManager,
};

const SIZE: (i32, i32) = (64, 64);

/// Passes a picture until it is read, shrinks its file, and passes it again. Some compositors read
/// it when it is passed, some when they need it, and some never.
fn shrink(
    session: &mut Session,
    options: &Options,
    pass: impl Fn(&Session, &Stage, &WlBuffer) -> Result<()>,
) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    let bytes = pool::bytes(SIZE);
    let file = options.place.create()?;
    file.set_len(bytes as u64).context("ftruncate")?;
    let pool = Pool::new(session, file, bytes)?;
    let buffer = pool.buffer(session, 0, SIZE);
    for _ in 0..5 {
        pass(session, &stage, &buffer)?;
        stage.show(session)?;
    }
    options.tell(if stage::allocated(&pool.file)? > 0 {
        "the compositor accesses the picture through a mapping"
    } else {
        "the compositor has not read the picture"
    });
    session.struck = true;
    pool.shrink()?;
    options.tell("its file has no pages any more");
    for _ in 0..5 {
        stage.show(session)?;
        pass(session, &stage, &buffer)?;
    }
    stage.provoke(session, options)
}

pub fn icon(session: &mut Session, options: &Options) -> Result<()> {
    let manager: XdgToplevelIconManagerV1 = session.bind(1..=1)?;
    shrink(session, options, |session, stage, buffer| {
        let icon = manager.create_icon(&session.handle, ());
        icon.add_buffer(buffer, 1);
        manager.set_icon(&stage.window.toplevel, Some(&icon));
        Ok(())
    })
}

pub fn shadow(session: &mut Session, options: &Options) -> Result<()> {
    let manager: OrgKdeKwinShadowManager = session.bind(1..=1)?;
    shrink(session, options, |session, stage, buffer| {
        let shadow = manager.create(&stage.window.surface, &session.handle, ());
        shadow.attach_left(buffer);
        shadow.attach_top_left(buffer);
        shadow.attach_top(buffer);
        shadow.attach_top_right(buffer);
        shadow.attach_right(buffer);
        shadow.attach_bottom_right(buffer);
        shadow.attach_bottom(buffer);
        shadow.attach_bottom_left(buffer);
        shadow.set_left_offset(f64::from(SIZE.0));
        shadow.set_top_offset(f64::from(SIZE.1));
        shadow.set_right_offset(f64::from(SIZE.0));
        shadow.set_bottom_offset(f64::from(SIZE.1));
        shadow.commit();
        Ok(())
    })
}

delegate_noop!(Heard: ignore XdgToplevelIconManagerV1);
delegate_noop!(Heard: XdgToplevelIconV1);
delegate_noop!(Heard: OrgKdeKwinShadow);
delegate_noop!(Heard: OrgKdeKwinShadowManager);
