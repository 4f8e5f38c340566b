// SPDX-License-Identifier: GPL-2.0
//! The interruptions that wait for one CPU, and which of them it takes next.

use crate::program::{code, Program};
use crate::psw::{Mask, Psw};
use bitflags::bitflags;

/// CPU addresses that an emergency signal may come from.
pub const MAX_CPUS: usize = 256;

/// Kinds of interruptions that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

bitflags! {
    impl Kinds: u16 {
        /// A program interruption.
        const PROGRAM = 1 << 0;
        /// A machine check.
        const MACHINE_CHECK = 1 << 1;
        /// An emergency signal, from one CPU or more.
        const EMERGENCY = 1 << 2;
        /// An external call.
        const EXTERNAL_CALL = 1 << 3;
        /// The clock comparator.
        const CLOCK_COMPARATOR = 1 << 4;
        /// The CPU timer.
        const CPU_TIMER = 1 << 5;
        /// A page that was waited for: the beginning.
        const PFAULT_INIT = 1 << 6;
        /// A restart.
        const RESTART = 1 << 7;
        /// The prefix is to be set.
        const SET_PREFIX = 1 << 8;
        /// The CPU is to stop.
        const STOP = 1 << 9;
    }
}

impl Kinds {
    /// All external interruptions.
    pub const EXTERNAL: Self = Self::EMERGENCY
        .union(Self::EXTERNAL_CALL)
        .union(Self::CLOCK_COMPARATOR)
        .union(Self::CPU_TIMER)
        .union(Self::PFAULT_INIT);
}

/// Subclass masks in control register 0.
pub mod subclass {
    /// Emergency signal.
    pub const EMERGENCY: u64 = 0x4000;
    /// External call.
    pub const EXTERNAL_CALL: u64 = 0x2000;
    /// Clock comparator.
    pub const CLOCK_COMPARATOR: u64 = 0x0800;
    /// CPU timer.
    pub const CPU_TIMER: u64 = 0x0400;
    /// Service signal, and page faults that userspace handles.
    pub const SERVICE_SIGNAL: u64 = 0x0200;
}

/// A machine check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineCheck {
    /// Subclass bits of control register 14 that enable it; one of them does.
    pub subclasses: u64,
    /// Interruption code.
    pub code: u64,
    /// Failing-storage address.
    pub failing_storage: u64,
    /// External-damage code.
    pub external_damage: u32,
    /// What logging the machine does, 16 bytes.
    pub fixed_logout: [u8; 16],
}

/// Why a CPU is to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Its status is to be stored.
    pub store_status: bool,
}

/// What waits for one CPU.
#[derive(Clone, Debug)]
pub struct Local {
    /// What kinds.
    pub kinds: Kinds,
    /// The program interruption.
    pub program: Program,
    /// The machine check.
    pub machine_check: MachineCheck,
    /// Who called.
    pub external_call: u16,
    /// Who sent emergency signals.
    emergency: [u64; MAX_CPUS / 64],
    /// Token of the page fault.
    pub pfault: u64,
    /// The prefix.
    pub prefix: u32,
    /// How to stop.
    pub stop: Stop,
}

/// What the state of a CPU lets in.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Program status word.
    pub psw: Psw,
    /// Control register 0.
    pub cr0: u64,
    /// Control register 6: subclasses of I/O interruptions.
    pub cr6: u64,
    /// Control register 14: subclasses of machine checks.
    pub cr14: u64,
}

impl Gate {
    /// The kinds of local interruptions that the CPU can take.
    pub fn open(&self) -> Kinds {
        let mut open = Kinds::PROGRAM | Kinds::RESTART | Kinds::SET_PREFIX;
        open.set(Kinds::MACHINE_CHECK, self.psw.has(Mask::MACHINE_CHECK));
        if self.psw.has(Mask::EXTERNAL) {
            open.set(Kinds::EMERGENCY, self.cr0 & subclass::EMERGENCY != 0);
            open.set(Kinds::EXTERNAL_CALL, self.cr0 & subclass::EXTERNAL_CALL != 0);
            open.set(Kinds::CLOCK_COMPARATOR, self.cr0 & subclass::CLOCK_COMPARATOR != 0);
            open.set(Kinds::CPU_TIMER, self.cr0 & subclass::CPU_TIMER != 0);
            open.set(Kinds::PFAULT_INIT, self.cr0 & subclass::SERVICE_SIGNAL != 0);
        }
        open
    }

    /// Whether it takes service signals.
    pub const fn takes_service_signal(&self) -> bool {
        self.psw.has(Mask::EXTERNAL) && self.cr0 & subclass::SERVICE_SIGNAL != 0
    }

    /// Whether it takes channel reports, which are machine checks.
    pub const fn takes_channel_reports(&self) -> bool {
        const CHANNEL_REPORT: u64 = 0x1000_0000;
        self.psw.has(Mask::MACHINE_CHECK) && self.cr14 & CHANNEL_REPORT != 0
    }

    /// The I/O interruption subclasses that it takes, bit 0 (0x80) being 0.
    pub const fn io_subclasses(&self) -> u8 {
        if self.psw.has(Mask::IO) {
            (self.cr6 >> 24) as u8
        } else {
            0
        }
    }
}

/// An interruption that a CPU takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Program.
    Program(Program),
    /// Machine check.
    MachineCheck(MachineCheck),
    /// External, with code, CPU address and parameters.
    External(External),
    /// Restart.
    Restart,
    /// Not an interruption: set the prefix.
    SetPrefix(u32),
}

/// An external interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct External {
    /// Code.
    pub code: u16,
    /// CPU address, or what else the code puts there.
    pub cpu: u16,
    /// First parameter, if it has one.
    pub parameter: Option<u32>,
    /// Second parameter, if it has one.
    pub parameter_2: Option<u64>,
}

impl External {
    /// One with a code alone.
    pub const fn new(code: u16) -> Self {
        Self { code, cpu: 0, parameter: None, parameter_2: None }
    }
}

/// Codes of external interruptions.
pub mod external {
    /// Clock comparator.
    pub const CLOCK_COMPARATOR: u16 = 0x1004;
    /// CPU timer.
    pub const CPU_TIMER: u16 = 0x1005;
    /// Emergency signal.
    pub const EMERGENCY: u16 = 0x1201;
    /// External call.
    pub const EXTERNAL_CALL: u16 = 0x1202;
    /// Service signal.
    pub const SERVICE_SIGNAL: u16 = 0x2401;
    /// Page faults and virtio, told apart by [`External::cpu`](super::External).
    pub const HOST: u16 = 0x2603;
    /// With [`HOST`]: the first half of a page fault.
    pub const PFAULT_INIT: u16 = 0x0600;
    /// With [`HOST`]: the second half.
    pub const PFAULT_DONE: u16 = 0x0680;
    /// With [`HOST`]: virtio.
    pub const VIRTIO: u16 = 0x0d00;
}

impl Local {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self {
            kinds: Kinds::empty(),
            program: Program::new(0),
            machine_check: MachineCheck {
                subclasses: 0,
                code: 0,
                failing_storage: 0,
                external_damage: 0,
                fixed_logout: [0; 16],
            },
            external_call: 0,
            emergency: [0; MAX_CPUS / 64],
            pfault: 0,
            prefix: 0,
            stop: Stop { store_status: false },
        }
    }

    /// Notes an emergency signal from a CPU.
    pub fn add_emergency(&mut self, cpu: u8) {
        if let Some(word) = self.emergency.get_mut(usize::from(cpu >> 6)) {
            *word |= 1_u64.wrapping_shl(u32::from(cpu));
            self.kinds |= Kinds::EMERGENCY;
        }
    }

    /// The CPUs whose emergency signals wait, in ascending order.
    pub fn emergencies(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|cpu| {
            let word = self.emergency.get(usize::from(cpu >> 6)).copied().unwrap_or(0);
            word >> (cpu & 63) & 1 != 0
        })
    }

    fn take_emergency(&mut self) -> u16 {
        let sender = self.emergencies().next().unwrap_or(0);
        if let Some(word) = self.emergency.get_mut(usize::from(sender >> 6)) {
            *word &= !1_u64.wrapping_shl(u32::from(sender));
        }
        if self.emergency == [0; MAX_CPUS / 64] {
            self.kinds.remove(Kinds::EMERGENCY);
        }
        u16::from(sender)
    }

    /// Adds a program interruption. An event of PER and another one that waits become one
    /// interruption with both.
    pub fn add_program(&mut self, new: Program) {
        let old = self.kinds.contains(Kinds::PROGRAM).then_some(self.program);
        self.kinds |= Kinds::PROGRAM;
        self.program = match old {
            Some(old) if new.code == code::PER => old.with_event(&new),
            Some(old) if old.code & code::PER != 0 && new.code & code::PER == 0 => {
                new.with_event(&old)
            }
            _ => new,
        };
    }

    /// The kinds that wait and can be taken.
    pub fn deliverable(&self, gate: &Gate) -> Kinds {
        let mut kinds = self.kinds & gate.open();
        if self.machine_check.subclasses & gate.cr14 == 0 {
            kinds.remove(Kinds::MACHINE_CHECK);
        }
        kinds
    }

    /// Takes the one that comes first, and forgets it. Priorities are those of the
    /// manual ("Priority of Interruptions"), restart being last.
    pub fn take(&mut self, gate: &Gate) -> Option<Taken> {
        let ready = self.deliverable(gate);
        let first = ready.iter().next()?;
        if first != Kinds::EMERGENCY {
            self.kinds.remove(first);
        }
        let taken = match first {
            Kinds::PROGRAM => Taken::Program(self.program),
            Kinds::MACHINE_CHECK => Taken::MachineCheck(self.machine_check),
            Kinds::EMERGENCY => Taken::External(External {
                cpu: self.take_emergency(),
                ..External::new(external::EMERGENCY)
            }),
            Kinds::EXTERNAL_CALL => Taken::External(External {
                cpu: self.external_call,
                ..External::new(external::EXTERNAL_CALL)
            }),
            Kinds::CLOCK_COMPARATOR => Taken::External(External::new(external::CLOCK_COMPARATOR)),
            Kinds::CPU_TIMER => Taken::External(External::new(external::CPU_TIMER)),
            Kinds::PFAULT_INIT => Taken::External(External {
                cpu: external::PFAULT_INIT,
                parameter_2: Some(self.pfault),
                ..External::new(external::HOST)
            }),
            Kinds::RESTART => Taken::Restart,
            _ => Taken::SetPrefix(self.prefix),
        };
        Some(taken)
    }

    /// Forgets everything, as a reset does.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::code;

    fn gate(mask: Mask, cr0: u64) -> Gate {
        Gate { psw: Psw { mask: mask.bits(), address: 0 }, cr0, cr6: 0x8000_0000, cr14: 0 }
    }

    #[test]
    fn program_interruptions_come_first_and_always() {
        let mut local = Local::new();
        local.add_emergency(3);
        local.kinds |= Kinds::PROGRAM | Kinds::RESTART;
        local.program = Program::new(code::OPERATION);
        let open = gate(Mask::EXTERNAL, subclass::EMERGENCY);
        assert_eq!(local.take(&open), Some(Taken::Program(Program::new(code::OPERATION))));
        let from_3 = External { cpu: 3, ..External::new(external::EMERGENCY) };
        assert_eq!(local.take(&open), Some(Taken::External(from_3)));
        assert_eq!(local.take(&open), Some(Taken::Restart));
        assert_eq!(local.take(&open), None);
    }

    #[test]
    fn an_event_joins_another_program_interruption() {
        let event = Program { per_code: 0x40, per_address: 0x1234, ..Program::new(code::PER) };
        let other = Program { length: 4, ..Program::new(code::SPECIFICATION) };
        let both = Program { length: 4, code: code::SPECIFICATION | code::PER, ..event };
        let mut local = Local::new();
        for [first, second] in [[event, other], [other, event]] {
            local.clear();
            local.add_program(first);
            local.add_program(second);
            assert_eq!(local.program, both);
        }
        local.add_program(other);
        assert_eq!(local.program, both, "the event is kept");
    }

    #[test]
    fn masks_hold_external_interruptions_back() {
        let mut local = Local::new();
        local.kinds |= Kinds::CLOCK_COMPARATOR;
        assert_eq!(local.take(&gate(Mask::EXTERNAL, subclass::CPU_TIMER)), None);
        assert_eq!(local.take(&gate(Mask::IO, subclass::CLOCK_COMPARATOR)), None);
        let taken = local.take(&gate(Mask::EXTERNAL, subclass::CLOCK_COMPARATOR));
        assert_eq!(taken, Some(Taken::External(External::new(external::CLOCK_COMPARATOR))));
    }

    #[test]
    fn emergency_signals_of_each_sender_come_once() {
        let mut local = Local::new();
        for cpu in [200, 0, 64, 0] {
            local.add_emergency(cpu);
        }
        let open = gate(Mask::EXTERNAL, subclass::EMERGENCY);
        let mut senders = std::vec::Vec::new();
        while let Some(Taken::External(external)) = local.take(&open) {
            senders.push(external.cpu);
        }
        assert_eq!(senders, [0, 64, 200]);
    }

    #[test]
    fn machine_checks_need_a_subclass() {
        let mut local = Local::new();
        local.kinds |= Kinds::MACHINE_CHECK;
        local.machine_check.subclasses = 0x1000_0000;
        let mut open = gate(Mask::MACHINE_CHECK, 0);
        assert_eq!(local.take(&open), None);
        open.cr14 = 0x1000_0000;
        assert!(matches!(local.take(&open), Some(Taken::MachineCheck(_))));
    }
}
