// SPDX-License-Identifier: GPL-2.0
//! Statistics of VMs and vCPUs (`KVM_GET_STATS_FD`).

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use kvm_uapi::ioctl;

use crate::device::make;

/// A statistics file, taken apart.
pub struct Stats {
    /// The file.
    pub file: File,
    /// Whose it is.
    pub id: String,
    /// Name, flags, exponent, size in values, offset of the values in the file.
    pub all: Vec<(String, u32, i16, u16, u64)>,
    /// Bytes of the whole.
    pub length: u64,
}

fn number<const N: usize>(file: &File, at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at).with_context(|| format!("reading at {at}"))?;
    Ok(bytes)
}

fn word(file: &File, at: u64) -> Result<u32> {
    Ok(u32::from_ne_bytes(number(file, at)?))
}

fn text(file: &File, at: u64) -> Result<String> {
    let bytes: [u8; 48] = number(file, at)?;
    Ok(CStr::from_bytes_until_nul(&bytes)?.to_str()?.to_owned())
}

impl Stats {
    /// That of a VM or vCPU.
    pub fn open(of: &File) -> Result<Self> {
        let file = make(of, ioctl::KVM_GET_STATS_FD, 0).context("KVM_GET_STATS_FD")?;
        let (name_size, count) = (word(&file, 4)?, word(&file, 8)?);
        let (id, descriptors, data) = (word(&file, 12)?, word(&file, 16)?, word(&file, 20)?);
        ensure!(word(&file, 0)? == 0 && name_size == 48, "flags or length of names");
        ensure!(count > 0 && id >= 24 && descriptors >= id + 48, "places of the parts");
        ensure!(data >= descriptors + count * 64, "{count} descriptors before the data at {data}");
        let mut all = Vec::new();
        let mut length = u64::from(data);
        for index in 0..count {
            let at = u64::from(descriptors + index * 64);
            let exponent = i16::from_ne_bytes(number(&file, at + 4)?);
            let size = u16::from_ne_bytes(number(&file, at + 6)?);
            let offset = u64::from(data + word(&file, at + 8)?);
            length = length.max(offset + u64::from(size) * 8);
            all.push((text(&file, at + 16)?, word(&file, at)?, exponent, size, offset));
        }
        Ok(Self { id: text(&file, id.into())?, file, all, length })
    }

    /// The value of a statistic, the first one if there are several.
    pub fn value(&self, name: &str) -> Result<u64> {
        let found = self.all.iter().find(|one| one.0 == name);
        let (.., offset) = found.with_context(|| format!("no '{name}'"))?;
        Ok(u64::from_ne_bytes(number(&self.file, *offset)?))
    }

    /// Fails unless there is a statistic of this kind with a likely value.
    pub fn has(&self, name: &str, flags: u32, exponent: i16, size: u16) -> Result<()> {
        let found = self.all.iter().find(|one| one.0 == name);
        let (_, f, e, s, offset) = found.with_context(|| format!("no '{name}'"))?;
        ensure!((*f, *e, *s) == (flags, exponent, size), "{name}: {f:#x} {e} {s}");
        let value = u64::from_ne_bytes(number(&self.file, *offset)?);
        ensure!(value < 1 << 40, "{name} is {value}");
        Ok(())
    }
}
