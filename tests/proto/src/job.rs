// SPDX-License-Identifier: GPL-2.0
//! What a run is to do. PID 1 finds it as JSON in `/job` of its initramfs; files that go with it
//! lie in `/job.d/modules` and `/job.d/files`.

use serde::{Deserialize, Serialize};

/// Where the job lies in the initramfs.
pub const JOB: &str = "/job";
/// Modules of a run in the initramfs; PID 1 copies them to [`RUN_MODULES_DIR`].
pub const MODULES_DIR: &str = "/job.d/modules";
/// What is copied into the working directory.
pub const FILES_DIR: &str = "/job.d/files";
/// The working directory of the command.
pub const WORK_DIR: &str = "/root";
/// Where the command finds the project's modules, also those that were not loaded.
pub const RUN_MODULES_DIR: &str = "/run/modules";

/// What PID 1 does between boot and power-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Shell command to run, or none for an interactive shell.
    pub cmd: Option<String>,
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
    /// Modules that the root and the channel need, loaded first.
    pub boot: Vec<Load>,
    /// Modules to load before the command.
    pub load: Vec<Load>,
    /// Environment of the command, beyond the usual.
    pub env: Vec<(String, String)>,
    /// The root file system to use.
    pub root: Root,
    /// Device that carries the frames.
    pub channel: String,
    /// Most bytes of payload per frame.
    pub max_payload: usize,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The uncompressed module file in the initramfs.
    pub path: String,
    /// Its parameters, `name=value …`.
    pub params: String,
}

/// The root file system the command sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// The initramfs itself.
    Initramfs,
    /// A directory of the host over 9p with this mount tag, an overlay in memory above it.
    Shared(String),
}
