// SPDX-License-Identifier: GPL-2.0
//! Telling udev of VMs: /dev/kvm changes when one comes and when one goes.
//!
//! The variables are `CREATED`, how many there have been, `COUNT`, how many there
//! are, `EVENT`, `create` or `destroy`, `PID`, whose it is, and `STATS_PATH`, its
//! directory in debugfs.

use kernel::{current, error::Result, prelude::*, str::CString};
use kvm_sys::{chardev::Node, global::Global};

/// What there is.
struct Counts {
    node: Option<Node>,
    created: u64,
    active: u64,
}

static COUNTS: Global<Counts> = Global::new(Counts { node: None, created: 0, active: 0 });

/// /dev/kvm as what changes, until dropped.
pub struct Announcer(());

impl Announcer {
    /// From now on VMs are announced.
    pub fn new(node: Node) -> Self {
        COUNTS.with(|counts| counts.node = Some(node));
        Self(())
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        drop(COUNTS.with(|counts| counts.node.take()));
    }
}

/// A VM that was announced; its end is when it is dropped.
pub(crate) struct Announced {
    pid: CString,
    stats: Option<CString>,
}

impl Announced {
    /// Announces a VM of the current process. `stats` is the name of its directory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(stats: Option<&CStr>) -> Result<Self> {
        let pid = CString::try_from_fmt(fmt!("PID={}", current!().pid()))?;
        let stats = match stats {
            Some(name) => Some(CString::try_from_fmt(fmt!("STATS_PATH=/kvm/{name}"))?),
            None => None,
        };
        let this = Self { pid, stats };
        let (node, created, active) = COUNTS.with(|counts| {
            counts.created = counts.created.wrapping_add(1);
            counts.active = counts.active.wrapping_add(1);
            (counts.node.clone(), counts.created, counts.active)
        });
        this.send(node, created, active, c"EVENT=create");
        Ok(this)
    }

    /// Nothing is told for want of memory.
    fn send(&self, node: Option<Node>, created: u64, active: u64, event: &CStr) {
        let Some(node) = node else { return };
        let created = CString::try_from_fmt(fmt!("CREATED={created}"));
        let active = CString::try_from_fmt(fmt!("COUNT={active}"));
        let (Ok(created), Ok(active)) = (created, active) else { return };
        let own: [Option<&CStr>; 5] =
            [Some(&created), Some(&active), Some(event), Some(&self.pid), self.stats.as_deref()];
        node.changed(own.into_iter().flatten());
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let (node, created, active) = COUNTS.with(|counts| {
            counts.active = counts.active.wrapping_sub(1);
            (counts.node.clone(), counts.created, counts.active)
        });
        self.send(node, created, active, c"EVENT=destroy");
    }
}
