// SPDX-License-Identifier: GPL-2.0
//! Lines of a Rust file that have code on them.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// How many there are in `text`, which is a whole file.
pub(crate) fn lines(text: &str) -> Result<usize> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("it isn't Rust: {error}"))?;
    let mut lines = BTreeSet::new();
    collect(tokens, &mut lines);
    Ok(lines.len())
}

/// Notes the lines of all tokens but those of documentation and tests.
fn collect(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let mut pending = vec![token];
        if is_punct(&pending[0], '#') {
            pending.extend(tokens.next_if(|token| is_punct(token, '!')));
            if let Some(TokenTree::Group(group)) = tokens.next_if(is_attribute) {
                let text = group.stream().to_string();
                if text.starts_with("doc =") {
                    continue;
                }
                if text == "cfg (test)" || text == "cfg(test)" {
                    skip_item(&mut tokens);
                    continue;
                }
                pending.push(TokenTree::Group(group));
            }
        }
        for token in pending {
            note(token, lines);
        }
    }
}

fn note(token: TokenTree, lines: &mut BTreeSet<usize>) {
    match token {
        TokenTree::Group(group) => {
            lines.insert(group.span_open().start().line);
            lines.insert(group.span_close().end().line);
            collect(group.stream(), lines);
        }
        // A string may go over several lines.
        other => lines.extend(other.span().start().line..=other.span().end().line),
    }
}

/// Passes what the attribute before it is about: up to a semicolon or the end of a block.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>) {
    for token in tokens {
        let is_block =
            matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
        if is_block || is_punct(&token, ';') {
            return;
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_attribute(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket)
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn counts_code_alone() {
        let text =
            "//! Head.\n\n/// Doc.\n#[inline]\nfn one() -> u32 {\n    // Why.\n    1 // one\n}\n";
        assert_eq!(lines(text).unwrap(), 4);
        assert_eq!(lines("const TEXT: &str = \"a\nb\nc\";\n").unwrap(), 3);
    }

    #[test]
    fn tests_do_not_count() {
        let text =
            "fn one() {}\n#[cfg(test)]\nmod tests {\n    fn two() {}\n}\n#[cfg(test)]\nmod more;\n";
        assert_eq!(lines(text).unwrap(), 1);
    }

    #[test]
    fn what_is_no_rust_is_an_error() {
        assert!(lines("fn one( {").is_err());
    }
}
