// SPDX-License-Identifier: GPL-2.0
//! From the capability MSRs to the values of the control fields: computed once, when
//! kvm-intel.ko loads.

use crate::{
    caps::{Unusable, VmxCaps, MSR_PROCBASED_CTLS, MSR_PROCBASED_CTLS2},
    control::{Allowed, Entry, Exit, Pin, Primary, Secondary},
};

/// IA32_VMX_BASIC (A.1).
pub const MSR_BASIC: u32 = 0x480;
const MSR_PINBASED_CTLS: u32 = 0x481;
const MSR_EXIT_CTLS: u32 = 0x483;
const MSR_ENTRY_CTLS: u32 = 0x484;
const MSR_MISC: u32 = 0x485;
const MSR_TRUE_PROCBASED_CTLS: u32 = 0x48e;

/// In [`MSR_BASIC`]: there are MSRs that tell which default settings aren't needed.
const HAS_TRUE_CONTROLS: u64 = 1 << 55;
/// In [`MSR_BASIC`]: physical addresses have 32 bits.
const ADDRESSES_32: u64 = 1 << 48;
const WRITE_BACK: u64 = 6;

const PIN: Pin = Pin::INTERRUPTS.union(Pin::NMIS);

const PRIMARY: Primary = Primary::TSC_OFFSET
    .union(Primary::HLT)
    .union(Primary::MWAIT)
    .union(Primary::RDPMC)
    .union(Primary::MOV_DR)
    .union(Primary::IO)
    .union(Primary::MSR_BITMAP)
    .union(Primary::MONITOR)
    .union(Primary::SECONDARY)
    .union(Primary::INTERRUPT_WINDOW);

/// Windows are opened when they are needed.
const CLOSED: Primary = Primary::INTERRUPT_WINDOW.union(Primary::NMI_WINDOW);

/// CR8 exits where it has no shadow.
const CR8: Primary = Primary::CR8_LOAD.union(Primary::CR8_STORE);

/// Exits that every VMX has and that second-level paging makes needless.
const CR3: Primary = Primary::CR3_LOAD.union(Primary::CR3_STORE);

const SECONDARY: Secondary = Secondary::EPT
    .union(Secondary::VIRTUALIZE_APIC)
    .union(Secondary::RDTSCP)
    .union(Secondary::VPID)
    .union(Secondary::WBINVD)
    .union(Secondary::UNRESTRICTED_GUEST)
    .union(Secondary::PAUSE_LOOP)
    .union(Secondary::INVPCID)
    .union(Secondary::ENCLS)
    .union(Secondary::PML)
    .union(Secondary::XSAVES);

const EXIT: Exit = Exit::SAVE_DEBUG
    .union(Exit::HOST_64)
    .union(Exit::ACK_INTERRUPT)
    .union(Exit::LOAD_PAT)
    .union(Exit::LOAD_EFER);

const ENTRY: Entry =
    Entry::LOAD_DEBUG.union(Entry::LONG_MODE).union(Entry::LOAD_PAT).union(Entry::LOAD_EFER);

/// What the operator wants to have used, where the processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Virtual-processor identifiers.
    pub vpid: bool,
    /// Accessed and dirty bits of extended page tables.
    pub accessed_dirty: bool,
    /// PAUSE-loop exiting.
    pub pause_loop: bool,
    /// The preemption timer.
    pub timer: bool,
    /// Virtual NMIs.
    pub virtual_nmis: bool,
    /// The page-modification log.
    pub dirty_log: bool,
    /// The APIC-access page.
    pub apic_page: bool,
}

impl Wanted {
    /// All of it.
    pub const ALL: Self = Self {
        vpid: true,
        accessed_dirty: true,
        pause_loop: true,
        timer: true,
        virtual_nmis: true,
        dirty_log: true,
        apic_page: true,
    };
}

/// What every vCPU's control structure begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Identifies the format of the control structure: its first word.
    pub revision: u32,
    /// Pin-based controls.
    pub pin: u32,
    /// Primary controls, no window open.
    pub primary: u32,
    /// Secondary controls.
    pub secondary: u32,
    /// Exit controls.
    pub exit: u32,
    /// Entry controls, for a guest that isn't in long mode.
    pub entry: u32,
    /// How fast the preemption timer is.
    pub timer: TimerRate,
}

/// The preemption timer counts down whenever this bit of the TSC changes (A.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRate(pub u32);

impl TimerRate {
    /// Counts for at least `cycles` of the TSC, as many as there can be; none for none.
    #[inline]
    pub const fn counts(self, cycles: u64) -> u32 {
        if cycles == 0 {
            return 0;
        }
        // The first step may come at once, and the last is to be behind the end.
        let counts = cycles.wrapping_shr(self.0).saturating_add(2);
        if counts > u32::MAX as u64 {
            u32::MAX
        } else {
            counts as u32
        }
    }
}

impl Config {
    /// Chooses them for a processor whose MSRs `rdmsr` reads.
    ///
    /// # Errors
    ///
    /// What is lacking.
    pub fn new(
        caps: &VmxCaps,
        wanted: Wanted,
        rdmsr: impl Fn(u32) -> Option<u64>,
    ) -> Result<Self, Unusable> {
        let allowed = |msr| Allowed(rdmsr(msr).unwrap_or(0));
        let basic = rdmsr(MSR_BASIC).unwrap_or(0);
        let size = basic >> 32 & 0x1fff;
        if basic & ADDRESSES_32 != 0 || basic >> 50 & 0xf != WRITE_BACK || size > 0x1000 {
            return Err(Unusable::Region);
        }
        let mut pins = Pin::empty();
        pins.set(Pin::PREEMPTION_TIMER, wanted.timer);
        // Without windows they are of no use.
        let windows = allowed(MSR_PROCBASED_CTLS).may_be_set() & Primary::NMI_WINDOW.bits() != 0;
        pins.set(Pin::VIRTUAL_NMIS, wanted.virtual_nmis && windows);
        let pin =
            allowed(MSR_PINBASED_CTLS).choose(PIN.bits(), pins.bits()).map_err(Unusable::Pin)?;
        let primary = Self::primary(basic, allowed).map_err(Unusable::Primary)?;
        let unwanted = Self::unwanted(caps, wanted, primary);
        let secondary = allowed(MSR_PROCBASED_CTLS2)
            .choose(0, (SECONDARY & caps.secondary & !unwanted).bits())
            .map_err(|_| Unusable::NoEpt)?;
        let exit = allowed(MSR_EXIT_CTLS).choose(EXIT.bits(), 0).map_err(Unusable::Exit)?;
        let entry = allowed(MSR_ENTRY_CTLS).choose(ENTRY.bits(), 0).map_err(Unusable::Entry)?;
        Ok(Self {
            revision: basic as u32 & 0x7fff_ffff,
            pin,
            primary,
            secondary,
            exit,
            entry: entry & !Entry::LONG_MODE.bits(),
            timer: TimerRate(rdmsr(MSR_MISC).unwrap_or(0) as u32 & 0x1f),
        })
    }

    /// Secondary controls that are left out beside these primary ones.
    fn unwanted(caps: &VmxCaps, wanted: Wanted, primary: u32) -> Secondary {
        // What is to be won by the page is the task priority without an exit.
        let has_shadow = primary & Primary::TPR_SHADOW.bits() != 0;
        let mut unwanted = Secondary::empty();
        unwanted.set(Secondary::VPID, !wanted.vpid);
        unwanted.set(Secondary::PAUSE_LOOP, !wanted.pause_loop);
        unwanted.set(Secondary::PML, !caps.paging.dirty_log);
        unwanted.set(Secondary::VIRTUALIZE_APIC, !(wanted.apic_page && has_shadow));
        unwanted
    }

    fn primary(basic: u64, allowed: impl Fn(u32) -> Allowed) -> Result<u32, u32> {
        let defaults = allowed(MSR_PROCBASED_CTLS);
        let has_shadow = defaults.may_be_set() & Primary::TPR_SHADOW.bits() != 0;
        let cr8 = if has_shadow { Primary::TPR_SHADOW } else { CR8 };
        let value = defaults.choose((PRIMARY | cr8).bits(), 0)?;
        let needed = match basic & HAS_TRUE_CONTROLS {
            0 => defaults,
            _ => allowed(MSR_TRUE_PROCBASED_CTLS),
        };
        if needed.0 as u32 & CR3.bits() != 0 {
            return Err(CR3.bits());
        }
        Ok(value & !(CLOSED | CR3).bits())
    }

    /// Whether a pin-based control is on.
    pub const fn has_pin(&self, control: Pin) -> bool {
        self.pin & control.bits() == control.bits()
    }

    /// Whether a primary control is on.
    pub const fn has_primary(&self, control: Primary) -> bool {
        self.primary & control.bits() == control.bits()
    }

    /// Whether a secondary control is on.
    pub const fn has_secondary(&self, control: Secondary) -> bool {
        self.secondary & control.bits() == control.bits()
    }
}

/// The EPT pointer (25.6.11): write-back tables of `levels` levels at `root`.
pub const fn ept_pointer(root: u64, levels: u8, accessed_dirty: bool) -> u64 {
    let ad = if accessed_dirty { 1 << 6 } else { 0 };
    root & !0xfff | WRITE_BACK | (levels.saturating_sub(1) as u64 & 7) << 3 | ad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::MSR_EPT_VPID_CAP;

    const BASIC: u64 = 0x1234 | 0x1000 << 32 | 6 << 50 | 1 << 55;
    const EPT: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 20 | 1 << 21 | 1 << 25 | 1 << 26;

    /// As Bochs' Ice Lake has them.
    fn cpu(changed: &[(u32, u64)]) -> impl Fn(u32) -> Option<u64> + '_ {
        move |msr| {
            let change = changed.iter().find(|(index, _)| *index == msr).map(|(_, value)| *value);
            change.or(match msr {
                MSR_BASIC => Some(BASIC),
                MSR_PINBASED_CTLS => Some(0x16 | 0x7f << 32),
                MSR_PROCBASED_CTLS => Some(0x0401_e172 | 0xf7f9_fffe << 32),
                MSR_PROCBASED_CTLS2 => Some(0x001f_ffff << 32),
                MSR_EXIT_CTLS => Some(0x0003_6dff | 0x007f_ffff << 32),
                MSR_ENTRY_CTLS => Some(0x0000_11ff | 0x0000_ffff << 32),
                MSR_MISC => Some(0x0004_01e5),
                MSR_EPT_VPID_CAP => Some(EPT),
                MSR_TRUE_PROCBASED_CTLS => Some(0x0400_6172 | 0xf7f9_fffe << 32),
                _ => None,
            })
        }
    }

    fn config(changed: &[(u32, u64)]) -> Result<Config, Unusable> {
        let caps = VmxCaps::read(cpu(changed))?;
        Config::new(&caps, Wanted::ALL, cpu(changed))
    }

    #[test]
    fn what_is_not_wanted_is_left_out() {
        let caps =
            VmxCaps::read(cpu(&[])).unwrap().with(Wanted { accessed_dirty: false, ..Wanted::ALL });
        assert!(!caps.paging.accessed_dirty && !caps.paging.dirty_log);
        let logged = VmxCaps::read(cpu(&[])).unwrap().paging;
        assert!(logged.accessed_dirty && logged.dirty_log);
        let wanted = Wanted {
            vpid: false,
            pause_loop: false,
            timer: false,
            virtual_nmis: false,
            apic_page: false,
            ..Wanted::ALL
        };
        let config = Config::new(&caps, wanted, cpu(&[])).unwrap();
        let unwanted =
            Secondary::VPID | Secondary::PAUSE_LOOP | Secondary::PML | Secondary::VIRTUALIZE_APIC;
        assert_eq!(config.pin, 0x1f);
        assert_eq!(config.secondary & unwanted.bits(), 0);
        assert!(config.has_secondary(SECONDARY & !unwanted));
    }

    #[test]
    fn a_processor_with_everything() {
        let config = config(&[]).unwrap();
        assert_eq!(config.revision, 0x1234);
        assert_eq!(config.pin, 0x7f);
        assert_eq!(config.timer, TimerRate(5));
        assert!(config.has_primary(PRIMARY & !CLOSED | Primary::TPR_SHADOW));
        assert_eq!(config.primary & (CLOSED | CR3 | CR8).bits(), 0);
        assert!(config.has_secondary(SECONDARY));
        assert_eq!(config.entry & Entry::LONG_MODE.bits(), 0);
        assert_ne!(config.exit & Exit::HOST_64.bits(), 0);
    }

    #[test]
    fn cr8_exits_without_a_shadow() {
        let without = 0x0401_e172 | 0xf7d9_fffe << 32;
        let config = config(&[(MSR_PROCBASED_CTLS, without)]).unwrap();
        assert!(config.has_primary(CR8));
        assert!(!config.has_secondary(Secondary::VIRTUALIZE_APIC));
    }

    #[test]
    fn virtual_nmis_need_windows() {
        let has = |changed| config(changed).unwrap().has_pin(Pin::VIRTUAL_NMIS);
        assert!(has(&[]));
        assert!(!has(&[(MSR_PINBASED_CTLS, 0x5f << 32)]));
        assert!(!has(&[(MSR_PROCBASED_CTLS, 0x0401_e172 | 0xf7b9_fffe << 32)]));
    }

    #[test]
    fn what_is_lacking_is_named() {
        assert_eq!(config(&[(MSR_PINBASED_CTLS, 0x77 << 32)]), Err(Unusable::Pin(8)));
        assert_eq!(
            config(&[(MSR_EXIT_CTLS, 0x1ff_ffff << 32 & !(1 << 53))]),
            Err(Unusable::Exit(1 << 21))
        );
        assert_eq!(config(&[(MSR_BASIC, BASIC & !(2 << 50))]), Err(Unusable::Region));
        assert_eq!(config(&[(MSR_BASIC, BASIC & !(1 << 55))]), Err(Unusable::Primary(3 << 15)));
        assert_eq!(config(&[(MSR_ENTRY_CTLS, 0)]), Err(Unusable::Entry(0xc204)));
    }

    #[test]
    fn timers_do_not_end_early() {
        assert_eq!(TimerRate(5).counts(0), 0);
        assert_eq!(TimerRate(5).counts(1), 2);
        assert_eq!(TimerRate(5).counts(320), 12);
        assert_eq!(TimerRate(0).counts(7), 9);
        assert_eq!(TimerRate(0).counts(u64::MAX), u32::MAX);
        for cycles in 1..200 {
            let first_at_once = u64::from(TimerRate(5).counts(cycles) - 1) * 32;
            assert!(first_at_once >= cycles);
        }
    }

    #[test]
    fn ept_pointers() {
        assert_eq!(ept_pointer(0x1234_5000, 4, true), 0x1234_505e);
        assert_eq!(ept_pointer(0x1234_5000, 5, false), 0x1234_5026);
    }
}
