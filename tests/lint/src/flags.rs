// SPDX-License-Identifier: GPL-2.0
//! Flag types: `bitflags!` in the form that makes no text parser.
//!
//! Given a whole `struct`, the macro adds a parser and a printer to each type: a third of the module
//! was that once. Given an `impl` for a struct that is there already, it adds neither.

use crate::finding::Finding;
use crate::tree::{Source, Tree};

/// Checks the files that are compiled into modules.
pub(crate) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        if source.has_extension("rs") && !source.path.starts_with("tests") {
            check_file(source, findings);
        }
    }
}

fn check_file(source: &Source, findings: &mut Vec<Finding>) {
    // The indentation of the call whose braces are open.
    let mut open: Option<usize> = None;
    for (at, line) in source.text.lines().enumerate() {
        let words = line.trim_start();
        let indentation = line.len() - words.len();
        if words.ends_with("bitflags! {") {
            open = Some(indentation);
        } else if words == "}" && open == Some(indentation) {
            open = None;
        } else if open.is_some() && words.split(' ').any(|word| word == "struct") {
            let what = "declare the struct before bitflags! and give it an `impl`";
            findings.push(Finding::new(&source.path, at + 1, "flags", what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        let mut findings = Vec::new();
        let source = Source { path: "a.rs".into(), text: text.into() };
        check_file(&source, &mut findings);
        findings.len()
    }

    #[test]
    fn the_form_with_a_parser_is_found() {
        assert_eq!(count("bitflags! {\n    pub struct A: u8 {\n    }\n}\nstruct B;\n"), 1);
        assert_eq!(count("struct A(u8);\nbitflags::bitflags! {\n    impl A: u8 {\n    }\n}\n"), 0);
    }
}
