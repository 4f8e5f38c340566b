// SPDX-License-Identifier: GPL-2.0
//! Where the linked modules can panic, which in a kernel stops the machine.
//!
//! Every panic ends in a function of `core` that doesn't return. The modules' relocations say which
//! function of ours calls one of them. What is known and allowed stands in `tests/panics.txt`; it is to
//! become less, never more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SectionKind, SymbolKind,
};

use crate::step::Place;

/// The functions that may still panic: `module: function: panic`, one a line.
const ALLOWED: &str = "tests/panics.txt";

/// What the names of functions that panic start with: those of `core`, and the arithmetic of 128 bits,
/// which the kernel's `compiler_builtins` answers with a panic.
const PANICS: &[&str] = &[
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_",
    "core::slice::copy_from_slice_impl::len_mismatch_fail",
    "core::slice::<impl [T]>::copy_from_slice::len_mismatch_fail",
    "core::str::slice_error_fail",
    "core::str::traits::str_index_overflow_fail",
    "core::cell::panic_already",
    "core::cell::panic_not_",
    "core::alloc::layout::",
    "rust_begin_unwind",
    "__ashlti3",
    "__ashrti3",
    "__lshrti3",
    "__divti3",
    "__modti3",
    "__multi3",
    "__muloti4",
    "__udivmodti4",
    "__udivti3",
    "__umodti3",
];

/// A reference: module, function, what it calls.
type Reference = (String, String, String);

/// Prints how many references to panicking functions `modules` have, and each of them by function;
/// an error if there is one that is not allowed.
pub fn check(place: &Place, modules: &[PathBuf]) -> Result<()> {
    let mut found: BTreeMap<Reference, usize> = BTreeMap::new();
    for module in modules {
        for reference in references(module)? {
            *found.entry(reference).or_default() += 1;
        }
    }
    let total: usize = found.values().sum();
    println!("{total} references to panics in {} modules", modules.len());
    for ((module, function, panic), count) in &found {
        println!("  {module}: {function}: {panic} ({count})");
    }
    let allowed = allowed(place)?;
    let line = |(module, function, panic): &Reference| format!("{module}: {function}: {panic}");
    let new: Vec<String> =
        found.keys().map(line).filter(|reference| !allowed.contains(reference)).collect();
    if !new.is_empty() {
        bail!(
            "these can panic and aren't in {ALLOWED}; use checked operations, or show in a comment \
             there why it can't happen:\n  {}",
            new.join("\n  ")
        );
    }
    let gone: Vec<&str> = allowed
        .iter()
        .filter(|reference| !found.keys().any(|have| line(have) == **reference))
        .map(String::as_str)
        .collect();
    if !gone.is_empty() {
        bail!("these are gone: remove them from {ALLOWED}\n  {}", gone.join("\n  "));
    }
    Ok(())
}

fn allowed(place: &Place) -> Result<BTreeSet<String>> {
    let path = place.tree.join(ALLOWED);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// Every reference from the code of `module` to a function that panics.
fn references(module: &Path) -> Result<Vec<Reference>> {
    let context = || format!("reading {}", module.display());
    let bytes = fs::read(module).with_context(context)?;
    let file = object::File::parse(&*bytes).with_context(context)?;
    let name = module.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(index).with_context(context)?;
            let target = demangled(symbol.name().with_context(context)?);
            if PANICS.iter().any(|panic| target.starts_with(panic)) {
                let function = function_at(&file, section.index(), offset);
                found.push((name.clone(), function, target));
            }
        }
    }
    Ok(found)
}

/// The name of the function that covers `offset` in a section.
fn function_at(file: &object::File<'_>, section: SectionIndex, offset: u64) -> String {
    let covers = |symbol: &object::Symbol<'_, '_>| {
        symbol.kind() == SymbolKind::Text
            && symbol.section_index() == Some(section)
            && (symbol.address()..symbol.address() + symbol.size()).contains(&offset)
    };
    let symbol = file.symbols().find(covers);
    symbol
        .and_then(|symbol| symbol.name().ok().map(demangled))
        .unwrap_or_else(|| format!("code at {offset:#x}"))
}

/// The name as in the source, without the crates' hashes.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::{PANICS, demangled};

    #[test]
    fn names_of_panics() {
        let name = "_RNvNtNtCs1rIa2xmUEZG_4core9panicking11panic_const24panic_const_add_overflow";
        let name = demangled(name);
        assert_eq!(name, "core::panicking::panic_const::panic_const_add_overflow");
        assert!(PANICS.iter().any(|panic| name.starts_with(panic)));
    }
}
