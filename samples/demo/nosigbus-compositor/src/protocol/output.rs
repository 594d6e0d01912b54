// SPDX-License-Identifier: MIT OR Apache-2.0

//! wl_output: the screen, as clients see it.

use crate::{limits, screen, state::State};
use wayland_server::{
    Client, DataInit, DisplayHandle, GlobalDispatch, New, Resource,
    protocol::wl_output::{Mode, Subpixel, Transform, WlOutput},
};

impl GlobalDispatch<WlOutput, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        client: &Client,
        output: New<WlOutput>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        let output = limits::bind(client, output, init);
        let (maker, model) = ("nosigbus".into(), "memory".into());
        output.geometry(0, 0, 0, 0, Subpixel::None, maker, model, Transform::Normal);
        let (width, height) = (screen::WIDTH as i32, screen::HEIGHT as i32);
        output.mode(Mode::Current | Mode::Preferred, width, height, 25_000);
        if output.version() >= 2 {
            output.scale(1);
            output.done();
        }
    }
}

ignore_requests!(WlOutput);
