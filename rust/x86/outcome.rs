// SPDX-License-Identifier: GPL-2.0
//! What follows an exit.

/// What the run loop does next. Errors are what `KVM_RUN` answers; all else is
/// one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Enter the guest again.
    Resume,
    /// Return to userspace; `kvm_run` says why.
    ToUser,
}
