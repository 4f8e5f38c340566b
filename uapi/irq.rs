// SPDX-License-Identifier: GPL-2.0
//! Interrupt lines, messages, event descriptors and routes.

crate::layout::abi_structs! {
    list for_each_irq_struct;

    /// The level of a line, or, on the way back, what became of it.
    IrqLevel = kvm_irq_level {
        __bindgen_anon_1: u32,
        level: u32,
    }
    /// A message-signalled interrupt.
    Msi = kvm_msi {
        address_lo: u32,
        address_hi: u32,
        data: u32,
        flags: u32,
        devid: u32,
        pad: [u8; 12],
    }
    /// An eventfd that raises a line.
    Irqfd = kvm_irqfd {
        fd: u32,
        gsi: u32,
        flags: u32,
        resamplefd: u32,
        pad: [u8; 16],
    }
    /// An eventfd that a guest's write signals.
    Ioeventfd = kvm_ioeventfd {
        datamatch: u64,
        addr: u64,
        len: u32,
        fd: i32,
        flags: u32,
        pad: [u8; 36],
    }
    /// A route to a pin of an in-kernel chip.
    RoutingIrqchip = kvm_irq_routing_irqchip {
        irqchip: u32,
        pin: u32,
    }
    /// A route to a message.
    RoutingMsi = kvm_irq_routing_msi {
        address_lo: u32,
        address_hi: u32,
        data: u32,
        __bindgen_anon_1: u32,
    }
    /// One route; `u` is read as the type says.
    RoutingEntry = kvm_irq_routing_entry {
        gsi: u32,
        type_: u32,
        flags: u32,
        pad: u32,
        u: [u64; 4],
    }
}
