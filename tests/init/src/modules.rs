// SPDX-License-Identifier: GPL-2.0
//! Loading modules.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use proto::Load;

/// Loads `modules` in order. Each takes its parameters from the job and, as with modprobe, those on
/// the kernel's command line that start with its name.
pub(crate) fn load(modules: &[Load]) -> Result<()> {
    let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for module in modules {
        let file = File::open(&module.path).with_context(|| format!("opening {}", module.path))?;
        let params = format!("{} {}", module.params, parameters(&module.path, &words));
        let params = CString::new(params.trim()).context("module parameters")?;
        finit_module(&file, &params, ModuleInitFlags::empty())
            .with_context(|| format!("loading {}", module.path))?;
    }
    Ok(())
}

/// What `words` has for the module in the file `path`: of `kvm.halt_poll_ns=0` what follows the dot.
fn parameters(path: &str, words: &str) -> String {
    let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = stem.replace('-', "_");
    let own = |word: &str| {
        let (module, parameter) = word.split_once('.')?;
        (module.replace('-', "_") == name).then(|| parameter.to_owned())
    };
    words.split_whitespace().filter_map(own).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn of_one_module() {
        let words = "console=ttyS0 kvm.halt_poll_ns=0 kvm-amd.npt=1 kvm.x=a.b panic=-1 kvmx.y=1";
        assert_eq!(parameters("/job.d/modules/kvm.ko", words), "halt_poll_ns=0 x=a.b");
        assert_eq!(parameters("/job.d/modules/kvm-amd.ko", words), "npt=1");
        assert_eq!(parameters("/job.d/modules/kvm-intel.ko", words), "");
    }
}
