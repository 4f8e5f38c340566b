// SPDX-License-Identifier: GPL-2.0
//! `struct kvm_pit_state2` of KVM_GET_PIT2 and KVM_SET_PIT2.

/// The mode of a channel that has had no control word.
pub(super) const NO_MODE: u8 = 0xff;

/// One channel, 24 bytes. Flags are zero or one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ChannelState {
    /// Initial count, 1 to 65536.
    pub count: u32,
    /// Count that a latch command took.
    pub latched_count: u16,
    /// Byte of it to read next: 1 low, 2 high, 3 both; zero when none is latched.
    pub count_latched: u8,
    /// A status is latched.
    pub status_latched: u8,
    /// That status.
    pub status: u8,
    /// Byte that a read gives: 1 low, 2 high, 3 first of two, 4 second of two.
    pub read_state: u8,
    /// Byte that a write takes, as `read_state`.
    pub write_state: u8,
    /// First byte of two.
    pub write_latch: u8,
    /// Access of the control word: 1 low, 2 high, 3 both.
    pub rw_mode: u8,
    /// Mode, or 0xff before the first control word.
    pub mode: u8,
    /// Counts in decimal.
    pub bcd: u8,
    /// Gate input.
    pub gate: u8,
    /// Reading of the monotonic clock when the count was loaded, in ns.
    pub count_load_time: i64,
}

/// All of the timer, 112 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PitState {
    /// The channels.
    pub channels: [ChannelState; 3],
    /// [`FLAG_HPET_LEGACY`], [`FLAG_SPEAKER_DATA`].
    pub flags: u32,
    /// Zero.
    pub reserved: [u32; 9],
}

/// The HPET has taken over channel 0's interrupt.
pub const FLAG_HPET_LEGACY: u32 = 1;
/// Port 0x61's speaker data bit is set.
pub const FLAG_SPEAKER_DATA: u32 = 2;

const _: () = assert!(core::mem::size_of::<ChannelState>() == 24);
const _: () = assert!(core::mem::size_of::<PitState>() == 112);
