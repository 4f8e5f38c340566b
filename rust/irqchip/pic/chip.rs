// SPDX-License-Identifier: GPL-2.0
//! [`Chip`]: one 8259A.
//!
//! Priorities are counted from `lowest + 1` round to `lowest`. The chip takes
//! the unmasked request of highest priority if it is above everything in
//! service (8259A data sheet, "Interrupt sequence" and "Programming").

use super::state::PicState;

/// What ICW1 to ICW4 have said and still say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Init {
    /// Initialised (or never was): port 1 is the mask.
    Done = 0,
    /// Waits for ICW2, the vector base.
    VectorBase = 1,
    /// Waits for ICW3, the cascade (wired, so its value is ignored).
    Cascade = 2,
    /// Waits for ICW4, the mode.
    Mode = 3,
}

mod spec {
    /// Port 0: ICW1 rather than an OCW.
    pub(super) const ICW1: u8 = 1 << 4;
    /// ICW1: there will be an ICW4.
    pub(super) const ICW1_ICW4: u8 = 1;
    /// Port 0 without `ICW1`: OCW3 rather than OCW2.
    pub(super) const OCW3: u8 = 1 << 3;
    pub(super) const OCW3_SET_SPECIAL_MASK: u8 = 1 << 6;
    pub(super) const OCW3_SPECIAL_MASK: u8 = 1 << 5;
    pub(super) const OCW3_POLL: u8 = 1 << 2;
    pub(super) const OCW3_SELECT: u8 = 1 << 1;
    pub(super) const OCW3_SELECT_ISR: u8 = 1;
    pub(super) const ICW4_AUTO_EOI: u8 = 1 << 1;
    pub(super) const ICW4_FULLY_NESTED: u8 = 1 << 4;
}

/// One 8259A.
///
/// # Invariants
///
/// `first` is at most 7; `elcr` has no bit outside `elcr_mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    /// Line levels as last seen, to find edges.
    pub(super) last: u8,
    pub(super) irr: u8,
    pub(super) imr: u8,
    pub(super) isr: u8,
    /// Input of highest priority.
    first: u8,
    pub(super) vector_base: u8,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    init: Init,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    fully_nested: bool,
    has_icw4: bool,
    elcr: u8,
    elcr_mask: u8,
    /// Input whose in-service bit doesn't hold back others in fully nested
    /// mode: the cascade of the first chip.
    cascade: u8,
}

/// What an access did to inputs: bit `i` is input `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Left the ISR: ended.
    pub(super) ended: u8,
    /// Edges forgotten by an initialisation.
    pub(super) dropped: u8,
    /// Mask bits that changed.
    pub(super) mask_changed: u8,
}

const fn bit(input: u8) -> u8 {
    1u8.wrapping_shl(input as u32)
}

impl Chip {
    pub(super) const fn new(elcr_mask: u8, cascade: u8) -> Self {
        Self {
            last: 0,
            irr: 0,
            imr: 0,
            isr: 0,
            first: 0,
            vector_base: 0,
            read_isr: false,
            poll: false,
            special_mask: false,
            init: Init::Done,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            fully_nested: false,
            has_icw4: false,
            elcr: 0,
            elcr_mask,
            cascade,
        }
    }

    /// Takes an input's level. True unless the input had a request already.
    pub(super) fn set_input(&mut self, input: u8, level: bool) -> bool {
        let mask = bit(input);
        let (was_high, was_requested) = (self.last & mask != 0, self.irr & mask != 0);
        if !level {
            self.last &= !mask;
            if self.elcr & mask != 0 {
                self.irr &= !mask;
            }
            return true;
        }
        self.last |= mask;
        if self.elcr & mask != 0 || !was_high {
            self.irr |= mask;
            return !was_requested;
        }
        true
    }

    /// Priority of the first of `inputs`, 0 the highest; 8 when there is none.
    fn priority(&self, inputs: u8) -> u8 {
        inputs.rotate_right(u32::from(self.first)).trailing_zeros() as u8
    }

    const fn input_at(&self, priority: u8) -> u8 {
        self.first.wrapping_add(priority) & 7
    }

    /// In-service inputs that count against new requests. Special mask mode
    /// leaves out the masked ones.
    const fn holding(&self) -> u8 {
        if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        }
    }

    /// The input that the chip would have served now.
    pub(super) fn request(&self) -> Option<u8> {
        let mut holding = self.holding();
        if self.fully_nested {
            holding &= !self.cascade;
        }
        let wanted = self.priority(self.irr & !self.imr);
        (wanted < self.priority(holding)).then(|| self.input_at(wanted))
    }

    /// Acknowledges `input`. In automatic-EOI mode it ends at once.
    pub(super) fn acknowledge(&mut self, input: u8) -> Touched {
        let mask = bit(input);
        // A level stays requested as long as it is asserted.
        if self.elcr & mask == 0 {
            self.irr &= !mask;
        }
        if !self.auto_eoi {
            self.isr |= mask;
            return Touched::default();
        }
        if self.rotate_on_auto_eoi {
            self.make_lowest(input);
        }
        Touched { ended: mask, ..Touched::default() }
    }

    fn make_lowest(&mut self, input: u8) {
        // INVARIANT: masked to 7.
        self.first = input.wrapping_add(1) & 7;
    }

    fn end(&mut self, input: u8) -> Touched {
        let mask = bit(input);
        self.isr &= !mask;
        Touched { ended: mask, ..Touched::default() }
    }

    /// Writes port 0 (`port1` false) or 1.
    pub(super) fn write(&mut self, port1: bool, value: u8) -> Touched {
        if port1 {
            self.write_data(value)
        } else if value & spec::ICW1 != 0 {
            self.initialise(value)
        } else if value & spec::OCW3 != 0 {
            self.write_ocw3(value);
            Touched::default()
        } else {
            self.write_ocw2(value)
        }
    }

    fn initialise(&mut self, icw1: u8) -> Touched {
        let dropped = self.irr & !self.elcr;
        self.last = 0;
        self.irr &= self.elcr;
        self.imr = 0;
        self.isr = 0;
        self.first = 0;
        self.special_mask = false;
        self.read_isr = false;
        self.has_icw4 = icw1 & spec::ICW1_ICW4 != 0;
        if !self.has_icw4 {
            self.fully_nested = false;
            self.auto_eoi = false;
        }
        self.init = Init::VectorBase;
        Touched { dropped, ..Touched::default() }
    }

    fn write_ocw2(&mut self, value: u8) -> Touched {
        let input = value & 7;
        match value >> 5 {
            0 | 4 => self.rotate_on_auto_eoi = value >> 5 == 4,
            // End of interrupt: the highest in service.
            command @ (1 | 5) => {
                let priority = self.priority(self.holding());
                if priority < 8 {
                    let input = self.input_at(priority);
                    if command == 5 {
                        self.make_lowest(input);
                    }
                    return self.end(input);
                }
            }
            3 => return self.end(input),
            6 => self.make_lowest(input),
            7 => {
                self.make_lowest(input);
                return self.end(input);
            }
            _ => {}
        }
        Touched::default()
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & spec::OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & spec::OCW3_SELECT != 0 {
            self.read_isr = value & spec::OCW3_SELECT_ISR != 0;
        }
        if value & spec::OCW3_SET_SPECIAL_MASK != 0 {
            self.special_mask = value & spec::OCW3_SPECIAL_MASK != 0;
        }
    }

    fn write_data(&mut self, value: u8) -> Touched {
        let mut touched = Touched::default();
        match self.init {
            Init::Done => {
                touched.mask_changed = self.imr ^ value;
                self.imr = value;
            }
            Init::VectorBase => {
                self.vector_base = value & 0xf8;
                self.init = Init::Cascade;
            }
            Init::Cascade => self.init = if self.has_icw4 { Init::Mode } else { Init::Done },
            Init::Mode => {
                self.fully_nested = value & spec::ICW4_FULLY_NESTED != 0;
                self.auto_eoi = value & spec::ICW4_AUTO_EOI != 0;
                self.init = Init::Done;
            }
        }
        touched
    }

    /// Whether the next read is a poll; forgets it.
    pub(super) fn take_poll(&mut self) -> bool {
        core::mem::take(&mut self.poll)
    }

    /// Reads port 0 or 1 when it isn't a poll.
    pub(super) const fn read(&self, port1: bool) -> u8 {
        if port1 {
            self.imr
        } else if self.read_isr {
            self.isr
        } else {
            self.irr
        }
    }

    pub(super) const fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, value: u8) {
        // INVARIANT: masked.
        self.elcr = value & self.elcr_mask;
    }

    pub(super) fn save(&self) -> PicState {
        PicState {
            last_irr: self.last,
            irr: self.irr,
            imr: self.imr,
            isr: self.isr,
            priority_add: self.first,
            irq_base: self.vector_base,
            read_reg_select: self.read_isr.into(),
            poll: self.poll.into(),
            special_mask: self.special_mask.into(),
            init_state: self.init as u8,
            auto_eoi: self.auto_eoi.into(),
            rotate_on_auto_eoi: self.rotate_on_auto_eoi.into(),
            special_fully_nested_mode: self.fully_nested.into(),
            init4: self.has_icw4.into(),
            elcr: self.elcr,
            elcr_mask: self.elcr_mask,
        }
    }

    /// Takes a state. Userspace may choose a vector base and level-triggered lines that
    /// the guest itself couldn't.
    pub(super) fn load(&mut self, state: &PicState) {
        *self = Self {
            last: state.last_irr,
            irr: state.irr,
            imr: state.imr,
            isr: state.isr,
            first: state.priority_add & 7,
            vector_base: state.irq_base,
            read_isr: state.read_reg_select != 0,
            poll: state.poll != 0,
            special_mask: state.special_mask != 0,
            init: match state.init_state {
                1 => Init::VectorBase,
                2 => Init::Cascade,
                3 => Init::Mode,
                _ => Init::Done,
            },
            auto_eoi: state.auto_eoi != 0,
            rotate_on_auto_eoi: state.rotate_on_auto_eoi != 0,
            fully_nested: state.special_fully_nested_mode != 0,
            has_icw4: state.init4 != 0,
            // INVARIANT: masked.
            elcr: state.elcr & state.elcr_mask,
            elcr_mask: state.elcr_mask,
            cascade: self.cascade,
        };
    }
}
