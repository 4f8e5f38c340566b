// SPDX-License-Identifier: GPL-2.0
//! Structures of VM, vCPU and device files that all architectures have.

crate::layout::abi_structs! {
    list for_each_vcpu_struct;

    /// A capability to turn on, with its arguments.
    EnableCap = kvm_enable_cap {
        cap: u32,
        flags: u32,
        args: [u64; 4],
        pad: [u8; 64],
    }
    /// A device to make; its descriptor comes back.
    CreateDevice = kvm_create_device {
        type_: u32,
        fd: u32,
        flags: u32,
    }
    /// An attribute of a device, VM or vCPU; its data is at `addr`.
    DeviceAttr = kvm_device_attr {
        flags: u32,
        group: u32,
        attr: u64,
        addr: u64,
    }
    /// Whether a vCPU runs, halts, waits for its start, or is stopped.
    MpState = kvm_mp_state {
        mp_state: u32,
    }
    /// An interrupt vector to inject.
    Interrupt = kvm_interrupt {
        irq: u32,
    }
    /// A guest virtual address and where it leads.
    Translation = kvm_translation {
        linear_address: u64,
        physical_address: u64,
        valid: u8,
        writeable: u8,
        usermode: u8,
        pad: [u8; 5],
    }
    /// A register by its id; its value is at `addr`.
    OneReg = kvm_one_reg {
        id: u64,
        addr: u64,
    }
    /// The guest's clock, with the host's at the same moment.
    ClockData = kvm_clock_data {
        clock: u64,
        flags: u32,
        pad0: u32,
        realtime: u64,
        host_tsc: u64,
        pad: [u32; 4],
    }
}

/// `CreateDevice::flags`: only say whether there is such a device.
pub const KVM_CREATE_DEVICE_TEST: u32 = 1;
