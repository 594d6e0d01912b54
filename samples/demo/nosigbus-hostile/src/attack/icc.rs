// SPDX-License-Identifier: MIT OR Apache-2.0

//! ICC profiles, which a client passes by file.

use super::{race::Race, stage};
use crate::{
    Options,
    heard::Heard,
    session::{NotOffered, Session, on_event},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    time::Instant,
};
use wayland_client::{WEnum, delegate_noop};
use wayland_protocols::wp::color_management::v1::client::{
    wp_color_manager_v1::{self, Feature, WpColorManagerV1},
    wp_image_description_creator_icc_v1::WpImageDescriptionCreatorIccV1,
    wp_image_description_v1::{self, WpImageDescriptionV1},
};

const SIZE: u32 = 1 << 20;

/// Returns the start of an ICC profile: sizes, versions and names, in the format of ICC.1.
fn header() -> Vec<u8> {
    let mut header = vec![0; 132];
    header[0..4].copy_from_slice(&SIZE.to_be_bytes());
    header[8..12].copy_from_slice(&[4, 0x40, 0, 0]);
    header[12..24].copy_from_slice(b"mntrRGB XYZ ");
    header[36..40].copy_from_slice(b"acsp");
    // The white point of profiles: D50.
    for (place, value) in [(68, 0xf6d6u32), (72, 0x10000), (76, 0xd32d)] {
        header[place..place + 4].copy_from_slice(&value.to_be_bytes());
    }
    header
}

fn bind(session: &mut Session) -> Result<WpColorManagerV1> {
    let manager: WpColorManagerV1 = session.bind(1..=1)?;
    session.wait(|heard| heard.colors.known)?;
    ensure!(
        session.heard.colors.icc,
        NotOffered("wp_color_manager_v1.icc_v2_v4")
    );
    Ok(manager)
}

/// Passes a profile, and calls `meanwhile` before the compositor has to read it. Returns whether
/// the compositor has accepted it.
fn pass(
    session: &mut Session,
    manager: &WpColorManagerV1,
    file: &File,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let handle = session.handle.clone();
    let creator = manager.create_icc_creator(&handle, ());
    creator.set_icc_file(file.as_fd(), 0, SIZE);
    session.roundtrip()?;
    meanwhile()?;
    session.heard.colors.taken = None;
    let description = creator.create(&handle, ());
    session.wait(|heard| heard.colors.taken.is_some())?;
    description.destroy();
    Ok(session.heard.colors.taken == Some(true))
}

pub fn empty(session: &mut Session, options: &Options) -> Result<()> {
    let manager = bind(session)?;
    let file = options.place.create()?;
    session.struck = true;
    let taken = pass(session, &manager, &file, || Ok(()))?;
    options.tell(&format!("the profile without a byte was taken: {taken}"));
    Ok(())
}

pub fn shrink(session: &mut Session, options: &Options) -> Result<()> {
    let manager = bind(session)?;
    let file = options.place.create()?;
    file.write_all_at(&header(), 0)?;
    file.set_len(SIZE.into()).context("ftruncate")?;
    let written = stage::allocated(&file)?;
    pass(session, &manager, &file, || Ok(()))?;
    if options.place.is_memory() {
        options.tell(if stage::allocated(&file)? > written {
            "the compositor maps profiles"
        } else {
            "the compositor reads profiles, and does not map them"
        });
    }
    session.struck = true;
    let race = Race::cut_and_regrow(&file)?;
    let end = Instant::now() + options.seconds;
    let mut passed = 0;
    while Instant::now() < end {
        pass(session, &manager, &file, || Ok(()))?;
        passed += 1;
    }
    race.finish()?;
    options.tell(&format!(
        "{passed} profiles while their file was cut and regrown"
    ));
    file.set_len(SIZE.into()).context("ftruncate")?;
    pass(session, &manager, &file, || {
        file.set_len(0).context("ftruncate")
    })?;
    Ok(())
}

on_event!(WpColorManagerV1, (), |heard, _proxy, event, _user| {
    match event {
        wp_color_manager_v1::Event::SupportedFeature {
            feature: WEnum::Value(Feature::IccV2V4),
        } => heard.colors.icc = true,
        wp_color_manager_v1::Event::Done => heard.colors.known = true,
        _ => {}
    }
});

on_event!(WpImageDescriptionV1, (), |heard, _proxy, event, _user| {
    match event {
        wp_image_description_v1::Event::Ready { .. } => heard.colors.taken = Some(true),
        wp_image_description_v1::Event::Failed { .. } => heard.colors.taken = Some(false),
        _ => {}
    }
});

delegate_noop!(Heard: WpImageDescriptionCreatorIccV1);
