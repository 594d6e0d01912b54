// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lists what a compositor offers, and which of the requests take a file descriptor. The requests
//! come from the descriptions of the protocols. What compositors do with the file descriptors is
//! known from the purpose of the requests, and from the code of compositors.

use crate::{say, session::Session};
use std::collections::{BTreeMap, BTreeSet};
use wayland_client::{
    Proxy,
    backend::protocol::{ArgumentType, Interface},
    protocol::{
        wl_compositor::WlCompositor, wl_data_device_manager::WlDataDeviceManager,
        wl_fixes::WlFixes, wl_output::WlOutput, wl_seat::WlSeat, wl_shell::WlShell, wl_shm::WlShm,
        wl_subcompositor::WlSubcompositor,
    },
};
use wayland_protocols::{ext, wp, xdg, xwayland};
use wayland_protocols_misc as misc;
use wayland_protocols_plasma as kde;
use wayland_protocols_wlr as wlr;

/// Requests and arguments, what the compositor does with the file, and details. It can be
/// "mapped", "read" into the compositor's own memory, "written-to", or "passed-on" to another
/// client or to the kernel. A compositor does not look into a file that it passes on.
const KNOWN: &str = "\
wl_shm.create_pool fd mapped pixels of buffers
wl_data_offer.receive fd passed-on to the client that has the data
zwp_primary_selection_offer_v1.receive fd passed-on to the client that has the data
gtk_primary_selection_offer.receive fd passed-on to the client that has the data
ext_data_control_offer_v1.receive fd passed-on to the client that has the data
zwlr_data_control_offer_v1.receive fd passed-on to the client that has the data
zwp_linux_buffer_params_v1.add fd mapped pixels, by Mesa without a GPU, also of a memfd; else passed-on on to the GPU
zwp_linux_surface_synchronization_v1.set_acquire_fence fd passed-on to the kernel, a fence
wp_linux_drm_syncobj_manager_v1.import_timeline fd passed-on to the kernel, a timeline
wp_image_description_creator_icc_v1.set_icc_file icc_profile read an ICC profile
wp_security_context_manager_v1.create_listener listen_fd passed-on to the kernel, a socket to accept from
wp_security_context_manager_v1.create_listener close_fd passed-on to the kernel, polled
zwp_virtual_keyboard_v1.keymap fd mapped text of a keymap
zwlr_gamma_control_v1.set_gamma fd read a table
org_kde_plasma_window.get_icon fd written-to a picture, into a pipe
wl_drm.create_prime_buffer name passed-on to the GPU's driver, which takes dma-bufs
weston_debug_v1.subscribe streamfd written-to text, into a pipe or a file
xx_image_description_creator_icc_v4.set_icc_file icc_profile read an ICC profile
";

/// Interfaces that no crate here describes, each with its requests that take a file descriptor.
const BY_HAND: &str = "\
frog_color_management_factory_v1
gtk_shell1
hyprland_ctm_control_manager_v1
hyprland_focus_grab_manager_v1
hyprland_global_shortcuts_manager_v1
hyprland_input_capture_manager_v1
hyprland_lock_notifier_v1
hyprland_surface_manager_v1
hyprland_toplevel_export_manager_v1
hyprland_toplevel_mapping_manager_v1
mir_shell_v1
mutter_x11_interop
phosh_private
weston_capture_v1
weston_content_protection
weston_debug_v1 weston_debug_v1.subscribe
weston_desktop_shell
weston_direct_display_v1
weston_screensaver
weston_screenshooter
weston_touch_calibration
wl_drm wl_drm.create_prime_buffer
xx_color_manager_v4 xx_image_description_creator_icc_v4.set_icc_file
zcosmic_workspace_manager_v1
zphoc_device_state_v1
zphoc_layer_shell_effects_v1
zxdg_shell_v6
";

/// Expands to the interface of a type that has the same name as its module.
macro_rules! interface {
    ([$($module:ident)::+] $name:ident $type:ident) => {
        $($module)::+::client::$name::$type::interface()
    };
}

macro_rules! interfaces {
    ($($module:tt $($name:ident::$type:ident),+;)+) => {
        [$($(interface!($module $name $type)),+),+]
    };
}

/// Returns all interfaces that a compositor can offer and that the crates describe.
fn described() -> Vec<&'static Interface> {
    let mut all = vec![
        WlCompositor::interface(),
        WlDataDeviceManager::interface(),
        WlFixes::interface(),
        WlOutput::interface(),
        WlSeat::interface(),
        WlShell::interface(),
        WlShm::interface(),
        WlSubcompositor::interface(),
    ];
    all.extend(interfaces! {
        [ext::background_effect::v1] ext_background_effect_manager_v1::ExtBackgroundEffectManagerV1;
        [ext::data_control::v1] ext_data_control_manager_v1::ExtDataControlManagerV1;
        [ext::foreign_toplevel_list::v1] ext_foreign_toplevel_list_v1::ExtForeignToplevelListV1;
        [ext::idle_notify::v1] ext_idle_notifier_v1::ExtIdleNotifierV1;
        [ext::image_capture_source::v1]
            ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1,
            ext_foreign_toplevel_image_capture_source_manager_v1::ExtForeignToplevelImageCaptureSourceManagerV1;
        [ext::image_copy_capture::v1] ext_image_copy_capture_manager_v1::ExtImageCopyCaptureManagerV1;
        [ext::session_lock::v1] ext_session_lock_manager_v1::ExtSessionLockManagerV1;
        [ext::transient_seat::v1] ext_transient_seat_manager_v1::ExtTransientSeatManagerV1;
        [ext::workspace::v1] ext_workspace_manager_v1::ExtWorkspaceManagerV1;
        [wp::alpha_modifier::v1] wp_alpha_modifier_v1::WpAlphaModifierV1;
        [wp::color_management::v1] wp_color_manager_v1::WpColorManagerV1;
        [wp::color_representation::v1] wp_color_representation_manager_v1::WpColorRepresentationManagerV1;
        [wp::commit_timing::v1] wp_commit_timing_manager_v1::WpCommitTimingManagerV1;
        [wp::content_type::v1] wp_content_type_manager_v1::WpContentTypeManagerV1;
        [wp::cursor_shape::v1] wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
        [wp::drm_lease::v1] wp_drm_lease_device_v1::WpDrmLeaseDeviceV1;
        [wp::fifo::v1] wp_fifo_manager_v1::WpFifoManagerV1;
        [wp::fractional_scale::v1] wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
        [wp::fullscreen_shell::zv1] zwp_fullscreen_shell_v1::ZwpFullscreenShellV1;
        [wp::idle_inhibit::zv1] zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1;
        [wp::input_method::zv1] zwp_input_method_v1::ZwpInputMethodV1, zwp_input_panel_v1::ZwpInputPanelV1;
        [wp::input_timestamps::zv1] zwp_input_timestamps_manager_v1::ZwpInputTimestampsManagerV1;
        [wp::keyboard_shortcuts_inhibit::zv1]
            zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
        [wp::linux_dmabuf::zv1] zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
        [wp::linux_drm_syncobj::v1] wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
        [wp::linux_explicit_synchronization::zv1]
            zwp_linux_explicit_synchronization_v1::ZwpLinuxExplicitSynchronizationV1;
        [wp::pointer_constraints::zv1] zwp_pointer_constraints_v1::ZwpPointerConstraintsV1;
        [wp::pointer_gestures::zv1] zwp_pointer_gestures_v1::ZwpPointerGesturesV1;
        [wp::pointer_warp::v1] wp_pointer_warp_v1::WpPointerWarpV1;
        [wp::presentation_time] wp_presentation::WpPresentation;
        [wp::primary_selection::zv1]
            zwp_primary_selection_device_manager_v1::ZwpPrimarySelectionDeviceManagerV1;
        [wp::relative_pointer::zv1] zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
        [wp::security_context::v1] wp_security_context_manager_v1::WpSecurityContextManagerV1;
        [wp::single_pixel_buffer::v1] wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;
        [wp::tablet::zv1] zwp_tablet_manager_v1::ZwpTabletManagerV1;
        [wp::tablet::zv2] zwp_tablet_manager_v2::ZwpTabletManagerV2;
        [wp::tearing_control::v1] wp_tearing_control_manager_v1::WpTearingControlManagerV1;
        [wp::text_input::zv1] zwp_text_input_manager_v1::ZwpTextInputManagerV1;
        [wp::text_input::zv3] zwp_text_input_manager_v3::ZwpTextInputManagerV3;
        [wp::viewporter] wp_viewporter::WpViewporter;
        [xdg::activation::v1] xdg_activation_v1::XdgActivationV1;
        [xdg::decoration::zv1] zxdg_decoration_manager_v1::ZxdgDecorationManagerV1;
        [xdg::dialog::v1] xdg_wm_dialog_v1::XdgWmDialogV1;
        [xdg::foreign::zv1] zxdg_exporter_v1::ZxdgExporterV1, zxdg_importer_v1::ZxdgImporterV1;
        [xdg::foreign::zv2] zxdg_exporter_v2::ZxdgExporterV2, zxdg_importer_v2::ZxdgImporterV2;
        [xdg::shell] xdg_wm_base::XdgWmBase;
        [xdg::system_bell::v1] xdg_system_bell_v1::XdgSystemBellV1;
        [xdg::toplevel_drag::v1] xdg_toplevel_drag_manager_v1::XdgToplevelDragManagerV1;
        [xdg::toplevel_icon::v1] xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1;
        [xdg::toplevel_tag::v1] xdg_toplevel_tag_manager_v1::XdgToplevelTagManagerV1;
        [xdg::xdg_output::zv1] zxdg_output_manager_v1::ZxdgOutputManagerV1;
        [xwayland::keyboard_grab::zv1]
            zwp_xwayland_keyboard_grab_manager_v1::ZwpXwaylandKeyboardGrabManagerV1;
        [xwayland::shell::v1] xwayland_shell_v1::XwaylandShellV1;
        [wlr::data_control::v1] zwlr_data_control_manager_v1::ZwlrDataControlManagerV1;
        [wlr::export_dmabuf::v1] zwlr_export_dmabuf_manager_v1::ZwlrExportDmabufManagerV1;
        [wlr::foreign_toplevel::v1] zwlr_foreign_toplevel_manager_v1::ZwlrForeignToplevelManagerV1;
        [wlr::gamma_control::v1] zwlr_gamma_control_manager_v1::ZwlrGammaControlManagerV1;
        [wlr::input_inhibitor::v1] zwlr_input_inhibit_manager_v1::ZwlrInputInhibitManagerV1;
        [wlr::layer_shell::v1] zwlr_layer_shell_v1::ZwlrLayerShellV1;
        [wlr::output_management::v1] zwlr_output_manager_v1::ZwlrOutputManagerV1;
        [wlr::output_power_management::v1] zwlr_output_power_manager_v1::ZwlrOutputPowerManagerV1;
        [wlr::screencopy::v1] zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;
        [wlr::virtual_pointer::v1] zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1;
        [misc::gtk_primary_selection] gtk_primary_selection_device_manager::GtkPrimarySelectionDeviceManager;
        [misc::server_decoration] org_kde_kwin_server_decoration_manager::OrgKdeKwinServerDecorationManager;
        [misc::zwp_input_method_v2] zwp_input_method_manager_v2::ZwpInputMethodManagerV2;
        [misc::zwp_virtual_keyboard_v1] zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
        [kde::appmenu] org_kde_kwin_appmenu_manager::OrgKdeKwinAppmenuManager;
        [kde::blur] org_kde_kwin_blur_manager::OrgKdeKwinBlurManager;
        [kde::contrast] org_kde_kwin_contrast_manager::OrgKdeKwinContrastManager;
        [kde::dpms] org_kde_kwin_dpms_manager::OrgKdeKwinDpmsManager;
        [kde::external_brightness::v1] kde_external_brightness_v1::KdeExternalBrightnessV1;
        [kde::fake_input] org_kde_kwin_fake_input::OrgKdeKwinFakeInput;
        [kde::idle] org_kde_kwin_idle::OrgKdeKwinIdle;
        [kde::keystate] org_kde_kwin_keystate::OrgKdeKwinKeystate;
        [kde::lockscreen_overlay::v1] kde_lockscreen_overlay_v1::KdeLockscreenOverlayV1;
        [kde::output_device::v1] org_kde_kwin_outputdevice::OrgKdeKwinOutputdevice;
        [kde::output_device::v2] kde_output_device_v2::KdeOutputDeviceV2;
        [kde::output_management::v1] org_kde_kwin_outputmanagement::OrgKdeKwinOutputmanagement;
        [kde::output_management::v2] kde_output_management_v2::KdeOutputManagementV2;
        [kde::output_order::v1] kde_output_order_v1::KdeOutputOrderV1;
        [kde::plasma_shell] org_kde_plasma_shell::OrgKdePlasmaShell;
        [kde::plasma_virtual_desktop]
            org_kde_plasma_virtual_desktop_management::OrgKdePlasmaVirtualDesktopManagement;
        [kde::plasma_window_management]
            org_kde_plasma_window_management::OrgKdePlasmaWindowManagement,
            org_kde_plasma_activation_feedback::OrgKdePlasmaActivationFeedback;
        [kde::primary_output::v1] kde_primary_output_v1::KdePrimaryOutputV1;
        [kde::remote_access] org_kde_kwin_remote_access_manager::OrgKdeKwinRemoteAccessManager;
        [kde::screen_edge::v1] kde_screen_edge_manager_v1::KdeScreenEdgeManagerV1;
        [kde::screencast::v1] zkde_screencast_unstable_v1::ZkdeScreencastUnstableV1;
        [kde::server_decoration_palette]
            org_kde_kwin_server_decoration_palette_manager::OrgKdeKwinServerDecorationPaletteManager;
        [kde::shadow] org_kde_kwin_shadow_manager::OrgKdeKwinShadowManager;
        [kde::slide] org_kde_kwin_slide_manager::OrgKdeKwinSlideManager;
        [kde::surface_extension] qt_surface_extension::QtSurfaceExtension;
        [kde::text_input::v1] wl_text_input_manager::WlTextInputManager;
        [kde::text_input::v2] zwp_text_input_manager_v2::ZwpTextInputManagerV2;
        [kde::wayland_eglstream_controller] wl_eglstream_controller::WlEglstreamController;
    });
    all
}

/// Returns the requests that take file descriptors, and how many each takes. It covers all objects
/// that requests of a root object of this version can create, directly or indirectly.
fn takers(root: &'static Interface, version: u32) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut to_see = vec![root];
    while let Some(interface) = to_see.pop() {
        if !seen.insert(interface.name) {
            continue;
        }
        let messages = interface.requests.iter().chain(interface.events);
        to_see.extend(messages.filter_map(|message| message.child_interface));
        for request in interface.requests {
            let arguments = request.signature.iter();
            let fds = arguments.filter(|argument| **argument == ArgumentType::Fd);
            let fds = fds.count();
            if fds > 0 && request.since <= version {
                found.insert(format!("{}.{}", interface.name, request.name), fds);
            }
        }
    }
    found
}

/// Returns the same for an interface in `BY_HAND`, or `None` if it is not listed there.
fn takers_by_hand(name: &str) -> Option<BTreeMap<String, usize>> {
    let mut lines = BY_HAND.lines().map(str::split_whitespace);
    let requests = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    Some(requests.map(|request| (request.into(), 1)).collect())
}

/// Returns, for each file descriptor of a request, the argument, what compositors do with it, and
/// details.
fn known(request: &str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KNOWN.lines().filter_map(move |line| {
        let mut words = line.splitn(4, ' ');
        let same = words.next()? == request;
        let known = (words.next()?, words.next()?, words.next()?);
        same.then_some(known)
    })
}

/// Prints, for each offered interface, a line for each request that takes a file descriptor. The
/// fields are separated by tabs: the argument, what compositors do with it, and details. Prints "-"
/// if there is no such request, and "unknown" if the interface or the use is not known.
pub fn list(session: &Session) {
    let described = described();
    for global in &session.heard.globals {
        let name = global.interface.as_str();
        let offered = format!("{name}\t{}", global.version);
        let described = described.iter().find(|interface| interface.name == name);
        let takers = match described {
            Some(interface) => Some(takers(interface, global.version)),
            None => takers_by_hand(name),
        };
        match &takers {
            None => say(&format!("{offered}\tunknown")),
            Some(takers) if takers.is_empty() => say(&format!("{offered}\t-")),
            Some(_) => {}
        }
        for (request, fds) in takers.unwrap_or_default() {
            let known: Vec<_> = known(&request).collect();
            for (argument, used, more) in &known {
                let used = used.replace('-', " ");
                say(&format!("{offered}\t{request}\t{argument}\t{used}\t{more}"));
            }
            for _ in known.len()..fds {
                say(&format!("{offered}\t{request}\tfd\tunknown"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the requests of all interfaces that the crates or `BY_HAND` describe.
    fn all() -> BTreeMap<String, usize> {
        let described = described().into_iter();
        let mut all: BTreeMap<_, _> = described.flat_map(|root| takers(root, u32::MAX)).collect();
        assert!(all.contains_key("wl_shm.create_pool"));
        for line in BY_HAND.lines() {
            let name = line.split(' ').next().unwrap();
            all.extend(takers_by_hand(name).unwrap());
        }
        all
    }

    #[test]
    fn each_request_is_known() {
        for (request, fds) in all() {
            assert_eq!(known(&request).count(), fds, "{request}");
        }
    }

    #[test]
    fn nothing_else_is_known() {
        for line in KNOWN.lines() {
            let request = line.split(' ').next().unwrap();
            assert!(all().contains_key(request), "{request}");
            let mut uses = known(request).map(|known| known.1);
            assert!(
                uses.all(|used| matches!(used, "mapped" | "read" | "written-to" | "passed-on"))
            );
        }
    }
}
