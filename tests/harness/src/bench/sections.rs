// SPDX-License-Identifier: GPL-2.0
//! How large the modules' code and data are, by their files: what stays in memory once they are loaded.

use anyhow::{Context, Result};
use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS};
use object::read::elf::{ElfFile64, SectionHeader};
use object::{Endianness, Object, ObjectSection};

use super::{Outcome, Outcomes};
use crate::build;
use crate::exec::ModuleSet;
use crate::kernel::{self, Kernel};
use crate::machine::Machine;
use crate::step::Place;

/// Bytes of each kind.
#[derive(Default)]
struct Sizes {
    text: u64,
    /// Constants as well.
    data: u64,
    bss: u64,
}

/// Of all modules of the set that the machine loads, together.
pub(super) fn measure(
    place: &Place,
    kernel: &Kernel,
    machine: &dyn Machine,
    modules: ModuleSet,
) -> Result<Outcomes> {
    let wanted: Vec<String> =
        machine.rust_modules().iter().map(|file| kernel::module_name(file)).collect();
    let files = match modules {
        ModuleSet::Rust => build::modules(place, kernel)?,
        _ => {
            let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
            kernel.with_dependencies(&names)?
        }
    };
    let mut sizes = Sizes::default();
    for file in files {
        if wanted.contains(&kernel::module_name(&file.to_string_lossy())) {
            let bytes = kernel::module_bytes(&file)?;
            sizes.add(&bytes).with_context(|| format!("reading {}", file.display()))?;
        }
    }
    let figure = |bytes: u64| Outcome::Measured {
        unit: "bytes".into(),
        least: bytes as f64,
        median: bytes as f64,
    };
    let named = [("text", sizes.text), ("data", sizes.data), ("bss", sizes.bss)];
    Ok(named.map(|(name, bytes)| (format!("size/{name}"), figure(bytes))).into())
}

impl Sizes {
    /// Adds the sections of a module. What is for its start alone is freed then.
    fn add(&mut self, module: &[u8]) -> Result<()> {
        let file: ElfFile64<'_, Endianness> = ElfFile64::parse(module)?;
        for section in file.sections() {
            let header = section.elf_section_header();
            let flags = header.sh_flags(file.endian());
            let has = |flag: u32| flags & u64::from(flag) != 0;
            if !has(SHF_ALLOC) || section.name()?.starts_with(".init") {
                continue;
            }
            let kind = if header.sh_type(file.endian()) == SHT_NOBITS {
                &mut self.bss
            } else if has(SHF_EXECINSTR) && !has(SHF_WRITE) {
                &mut self.text
            } else {
                &mut self.data
            };
            *kind += section.size();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Sizes;

    #[test]
    fn sections_of_this_program_have_sizes() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut sizes = Sizes::default();
        sizes.add(&program).unwrap();
        assert!(sizes.text > 10_000 && sizes.data > 10_000 && sizes.bss > 0);
        assert!(sizes.text + sizes.data < program.len() as u64);
    }
}
