// SPDX-License-Identifier: GPL-2.0
//! The IA32_APIC_BASE MSR: [`ApicBase`], its rules and [`Mode`].
//!
//! SDM vol. 3, 12.4.4 and 12.12.5 (state transitions).

/// What the APIC is, as bits 11:10 of its base MSR say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hardware-disabled: no registers, no interrupts but those of the pins.
    Disabled,
    /// Memory-mapped registers, 8-bit IDs.
    XApic,
    /// Registers are MSRs, 32-bit IDs.
    X2Apic,
}

/// Value of the IA32_APIC_BASE MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicBase(u64);

/// A value that the MSR refuses; WRMSR takes #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidBase;

mod spec {
    pub(super) const BSP: u64 = 1 << 8;
    pub(super) const EXTENDED: u64 = 1 << 10;
    pub(super) const ENABLE: u64 = 1 << 11;
    pub(super) const RESERVED_LOW: u64 = 0x2ff;
    pub(super) const ADDRESS: u64 = !0xfff;
}

/// Guest physical address of the registers after reset.
pub const DEFAULT_ADDRESS: u64 = 0xfee0_0000;

/// Who writes the MSR and what the guest's CPUID says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseRules {
    /// Guest's physical-address width, 1 to 63 bits.
    pub address_bits: u32,
    /// CPUID offers x2APIC mode.
    pub x2apic: bool,
    /// The VMM writes, not the guest: any valid mode may follow any other.
    pub host: bool,
}

impl ApicBase {
    /// The value after power-on: enabled, in xAPIC mode, at the default address.
    pub const fn reset(bsp: bool) -> Self {
        Self(DEFAULT_ADDRESS | spec::ENABLE | if bsp { spec::BSP } else { 0 })
    }

    /// The MSR's value.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Guest physical address of the 4 KiB register page.
    #[inline]
    pub const fn address(self) -> u64 {
        self.0 & spec::ADDRESS
    }

    /// Whether this is the bootstrap processor.
    #[inline]
    pub const fn is_bsp(self) -> bool {
        self.0 & spec::BSP != 0
    }

    /// The mode that bits 11:10 select. (The invalid combination can't be
    /// stored, see [`ApicBase::write`].)
    #[inline]
    pub const fn mode(self) -> Mode {
        if self.0 & spec::ENABLE == 0 {
            Mode::Disabled
        } else if self.0 & spec::EXTENDED == 0 {
            Mode::XApic
        } else {
            Mode::X2Apic
        }
    }

    /// The value that follows when `value` is written.
    ///
    /// # Errors
    ///
    /// [`InvalidBase`] for reserved bits (those below 12 and those above the
    /// physical-address width), for x2APIC without the enable bit or without
    /// the CPUID feature, and, unless the VMM writes, for the transitions from
    /// x2APIC to xAPIC and from disabled to x2APIC.
    pub const fn write(self, value: u64, rules: BaseRules) -> Result<Self, InvalidBase> {
        if value == self.0 {
            return Ok(self);
        }
        let too_high = u64::MAX.wrapping_shl(rules.address_bits);
        if value & (too_high | spec::RESERVED_LOW) != 0 {
            return Err(InvalidBase);
        }
        if value & spec::EXTENDED != 0 && (!rules.x2apic || value & spec::ENABLE == 0) {
            return Err(InvalidBase);
        }
        let new = Self(value);
        if !rules.host
            && matches!(
                (self.mode(), new.mode()),
                (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic)
            )
        {
            return Err(InvalidBase);
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: BaseRules = BaseRules { address_bits: 40, x2apic: true, host: false };
    const HOST: BaseRules = BaseRules { host: true, ..GUEST };
    const X: u64 = DEFAULT_ADDRESS | 1 << 11;
    const X2: u64 = X | 1 << 10;
    const OFF: u64 = DEFAULT_ADDRESS;

    #[test]
    fn reset_values() {
        assert_eq!(ApicBase::reset(true).raw(), 0xfee0_0900);
        assert_eq!(ApicBase::reset(false).raw(), 0xfee0_0800);
        assert_eq!(ApicBase::reset(false).mode(), Mode::XApic);
    }

    #[test]
    fn transitions_of_the_guest() {
        let allowed = [(X, X2), (X, OFF), (X2, OFF), (OFF, X), (X, X), (X2, X2), (OFF, OFF)];
        for from in [X, X2, OFF] {
            for to in [X, X2, OFF] {
                let ok = ApicBase(from).write(to, GUEST).is_ok();
                assert_eq!(ok, allowed.contains(&(from, to)), "{from:x} -> {to:x}");
                assert!(ApicBase(from).write(to, HOST).is_ok());
            }
        }
    }

    #[test]
    fn refused_values() {
        let base = ApicBase::reset(true);
        for bit in (0..8).chain([9]).chain(40..64) {
            assert_eq!(base.write(X | 1 << bit, HOST), Err(InvalidBase), "bit {bit}");
        }
        assert!(base.write(X | 1 << 39, HOST).is_ok());
        assert_eq!(base.write(DEFAULT_ADDRESS | 1 << 10, HOST), Err(InvalidBase));
        assert_eq!(base.write(X2, BaseRules { x2apic: false, ..HOST }), Err(InvalidBase));
    }
}
