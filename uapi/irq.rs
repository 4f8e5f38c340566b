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
    /// A route to an adapter of IBM Z: a bit of indicators and one that sums them up.
    /// The bits are counted from the addresses on.
    RoutingAdapter = kvm_irq_routing_s390_adapter {
        ind_addr: u64,
        summary_addr: u64,
        ind_offset: u64,
        summary_offset: u32,
        adapter_id: u32,
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

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Calls `$callback!` with the names of the constants of this module.
        #[macro_export]
        macro_rules! for_each_irq_constant {
            ($callback:ident) => { $callback! { $($name)* } };
        }
    };
}

constants! {
    /// `Ioeventfd::flags`: only writes of `datamatch`.
    KVM_IOEVENTFD_FLAG_DATAMATCH = 1 << 0;
    /// `Ioeventfd::flags`: a port.
    KVM_IOEVENTFD_FLAG_PIO = 1 << 1;
    /// `Ioeventfd::flags`: takes one away.
    KVM_IOEVENTFD_FLAG_DEASSIGN = 1 << 2;
    /// `Ioeventfd::flags`: a subchannel of virtio-ccw.
    KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY = 1 << 3;
    /// `Irqfd::flags`: takes one away.
    KVM_IRQFD_FLAG_DEASSIGN = 1 << 0;
    /// `Irqfd::flags`: a level, which `resamplefd` hears of when it is served.
    KVM_IRQFD_FLAG_RESAMPLE = 1 << 1;
    /// `RoutingEntry::type_`: [`RoutingIrqchip`].
    KVM_IRQ_ROUTING_IRQCHIP = 1;
    /// `RoutingEntry::type_`: [`RoutingMsi`].
    KVM_IRQ_ROUTING_MSI = 2;
    /// `RoutingEntry::type_`: an adapter of IBM Z.
    KVM_IRQ_ROUTING_S390_ADAPTER = 3;
    /// `RoutingEntry::flags` and `Msi::flags`: `devid` is there.
    KVM_MSI_VALID_DEVID = 1 << 0;
}

/// `Ioeventfd::flags` that there are; one of them has no name for userspace.
pub const IOEVENTFD_FLAGS: u32 = 0x1f;
