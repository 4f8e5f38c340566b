// SPDX-License-Identifier: GPL-2.0
//! Unsafe code: only behind the fences, and never without a reason.

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::finding::Finding;
use crate::layers::{Kind, Layers};
use crate::tree::{Source, Tree};

/// Checks every Rust file of the project.
pub(crate) fn check(tree: &Tree, layers: &Layers, findings: &mut Vec<Finding>) -> Result<()> {
    for source in tree.sources.iter().filter(|source| source.has_extension("rs")) {
        let places = unsafe_places(source)?;
        let fenced = layers.owner(&source.path).is_none_or(|(_, krate)| krate.kind == Kind::Fence);
        for place in places {
            if !fenced {
                let what = "unsafe code outside the fences; see tests/layers.toml";
                findings.push(Finding::new(&source.path, place.line, "fence", what));
            }
            if place.needs_reason && !has_reason(&source.text, place.line) {
                let what = "unsafe code without a SAFETY comment above it";
                findings.push(Finding::new(&source.path, place.line, "safety", what));
            }
        }
    }
    Ok(())
}

struct Place {
    line: usize,
    /// Blocks and impls promise something; an unsafe function asks for something instead.
    needs_reason: bool,
}

fn unsafe_places(source: &Source) -> Result<Vec<Place>> {
    let file = syn::parse_file(&source.text)
        .with_context(|| format!("parsing {}", source.path.display()))?;
    let mut finder = Finder(Vec::new());
    finder.visit_file(&file);
    Ok(finder.0)
}

struct Finder(Vec<Place>);

impl Finder {
    fn found(&mut self, spanned: &impl Spanned, needs_reason: bool) {
        self.0.push(Place { line: spanned.span().start().line, needs_reason });
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.found(&block.unsafe_token, true);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.found(token, true);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.unsafety {
            self.found(token, false);
        }
        visit::visit_signature(self, signature);
    }

    /// The tokens of a macro aren't parsed: look for the word.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        find_in_tokens(call.tokens.clone(), &mut self.0);
    }
}

fn find_in_tokens(tokens: proc_macro2::TokenStream, places: &mut Vec<Place>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            proc_macro2::TokenTree::Group(group) => find_in_tokens(group.stream(), places),
            proc_macro2::TokenTree::Ident(word) if word == "unsafe" => {
                let is_block = matches!(tokens.peek(), Some(proc_macro2::TokenTree::Group(_)));
                places.push(Place { line: word.span().start().line, needs_reason: is_block });
            }
            _ => {}
        }
    }
}

/// Whether a comment with `SAFETY:` stands above the statement that holds `line`, or on the line.
fn has_reason(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let Some(own) = lines.get(line - 1) else { return false };
    if own.contains("SAFETY:") {
        return true;
    }
    // A statement may span lines above the block (`let x =`, an argument list, a match arm): go up
    // to the nearest comment, across at most three lines of code.
    let mut code = 0;
    for above in lines[..line - 1].iter().rev() {
        let above = above.trim();
        if above.starts_with("//") {
            if above.contains("SAFETY:") {
                return true;
            }
        } else if above.is_empty() || above == "}" || code == 3 {
            return false;
        } else {
            code += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(usize, bool)> {
        let source = Source { path: "x.rs".into(), text: text.into() };
        unsafe_places(&source).unwrap().into_iter().map(|p| (p.line, p.needs_reason)).collect()
    }

    #[test]
    fn blocks_impls_and_functions_are_found() {
        assert_eq!(places("fn f() {\n    unsafe { g() }\n}\n"), [(2, true)]);
        assert_eq!(places("unsafe impl Send for X {}\n"), [(1, true)]);
        assert_eq!(places("unsafe fn f() {}\n"), [(1, false)]);
        assert_eq!(places("m! { x <- unsafe { g() } }\n"), [(1, true)]);
        assert_eq!(places("// unsafe\nfn f() { let _ = \"unsafe\"; }\n"), []);
    }

    #[test]
    fn the_reason_stands_above() {
        assert!(has_reason("// SAFETY: sure.\nunsafe {}\n", 2));
        assert!(has_reason("// SAFETY: sure,\n// really.\nlet x =\n    unsafe {};\n", 4));
        assert!(!has_reason("// Fine.\nunsafe {}\n", 2));
        assert!(!has_reason("// SAFETY: another.\nunsafe {}\n\nunsafe {}\n", 4));
    }
}
