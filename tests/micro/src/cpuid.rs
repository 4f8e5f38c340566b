// SPDX-License-Identifier: GPL-2.0
//! Lists of CPUID leaves.

use std::fs::File;

use anyhow::{Context, Result};
use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::request::{self, exchange};

const ROOM: usize = 256;

/// `struct kvm_cpuid2` with room behind it.
#[repr(C)]
pub struct Cpuid {
    count: u32,
    padding: u32,
    entries: [kvm_cpuid_entry2; ROOM],
}

impl Cpuid {
    /// No leaves, room for all.
    pub fn room() -> Self {
        let entries = [kvm_cpuid_entry2::default(); ROOM];
        Self { count: ROOM as u32, padding: 0, entries }
    }

    /// Removes all leaves.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// What /dev/kvm says that guests can have.
    pub fn supported(kvm: &File) -> Result<Self> {
        let mut cpuid = Self::room();
        exchange(kvm, request::GET_SUPPORTED_CPUID, &mut cpuid)
            .context("KVM_GET_SUPPORTED_CPUID")?;
        Ok(cpuid)
    }

    /// The leaves.
    pub fn entries(&self) -> &[kvm_cpuid_entry2] {
        self.entries.get(..self.count as usize).unwrap_or(&self.entries)
    }

    /// The leaves.
    pub fn entries_mut(&mut self) -> &mut [kvm_cpuid_entry2] {
        let count = (self.count as usize).min(ROOM);
        &mut self.entries[..count]
    }

    /// A leaf; `index` only counts where it matters.
    pub fn find(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.entries().iter().find(|entry| is(entry, function, index))
    }

    /// The leaf, which is added if it isn't there.
    pub fn leaf_mut(&mut self, function: u32, index: u32) -> Result<&mut kvm_cpuid_entry2> {
        let place = self.entries().iter().position(|entry| is(entry, function, index));
        let place = place.unwrap_or(self.count as usize);
        let entry = self.entries.get_mut(place).context("too many CPUID leaves")?;
        if place == self.count as usize {
            self.count += 1;
            *entry = kvm_cpuid_entry2 { function, index, ..Default::default() };
        }
        Ok(entry)
    }

    /// Makes it the CPUID of the vCPU with this APIC id.
    pub fn set_apic_id(&mut self, id: u32) {
        for entry in self.entries_mut() {
            match entry.function {
                1 => entry.ebx = entry.ebx & 0x00ff_ffff | id << 24,
                0xb | 0x1f => entry.edx = id,
                _ => {}
            }
        }
    }
}

fn is(entry: &kvm_cpuid_entry2, function: u32, index: u32) -> bool {
    let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
    entry.function == function && (!indexed || entry.index == index)
}
