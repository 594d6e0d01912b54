// SPDX-License-Identifier: MIT OR Apache-2.0

//! How `nosigbus run` passes its options to its library: by environment variables.

/// The variable with the words of the options, separated by spaces. It is empty without options.
pub const VARIABLE: &str = "NOSIGBUS_RUN";
/// The variable with the path that `--log` names.
pub const LOG_VARIABLE: &str = "NOSIGBUS_LOG";

/// An option that the library has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    RecordErrors,
    Stats,
    Quiet,
    KeepStatus,
    Force,
    KeepHandlers,
    SharedReadOnly,
}

impl Choice {
    pub const ALL: [Self; 7] = [
        Self::RecordErrors,
        Self::Stats,
        Self::Quiet,
        Self::KeepStatus,
        Self::Force,
        Self::KeepHandlers,
        Self::SharedReadOnly,
    ];

    /// Returns its word in [`VARIABLE`].
    pub const fn word(self) -> &'static str {
        match self {
            Self::RecordErrors => "record-errors",
            Self::Stats => "stats",
            Self::Quiet => "quiet",
            Self::KeepStatus => "keep-status",
            Self::Force => "force",
            Self::KeepHandlers => "handlers=keep",
            Self::SharedReadOnly => "shared=read-only",
        }
    }
}
