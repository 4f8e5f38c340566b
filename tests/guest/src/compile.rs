// SPDX-License-Identifier: GPL-2.0
//! A load that is built like a compiler: it writes a program text, takes it apart, builds trees on the
//! heap, folds constants, emits code for a stack machine, runs that, and puts everything through SHA-256.
//! Floating-point numbers take part, so that a lost register of theirs shows as well.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::stream::Stream;

/// Functions in the text of one round; a round takes a fraction of a millisecond on a present-day processor.
const FUNCTIONS: u64 = 60;

/// What the load with `seed` comes to after `rounds` rounds.
pub fn digest(seed: u64, rounds: u32) -> String {
    let mut hash = Sha256::new();
    let mut stream = Stream::new(seed);
    for _ in 0..rounds {
        let text = program(&mut stream);
        hash.update(&text);
        let mut results = BTreeMap::new();
        for line in text.lines() {
            let Some((name, body)) = line.split_once('=') else { continue };
            let mut tokens = tokens(body).into_iter().peekable();
            let tree = fold(sum(&mut tokens));
            let mut code = Vec::new();
            emit(&tree, &mut code);
            let value = execute(&code);
            results.insert(name.to_owned(), value);
        }
        for (name, value) in &results {
            hash.update(name);
            hash.update(value.to_le_bytes());
        }
        hash.update(orbit(&mut stream).to_bits().to_le_bytes());
    }
    let result = hash.finalize();
    result.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Lines `name=expression`.
fn program(stream: &mut Stream) -> String {
    let mut text = String::new();
    for index in 0..FUNCTIONS {
        let _ = write!(text, "f{}_{index}=", stream.below(1000));
        for term in 0..=stream.below(20) {
            let operator = ['+', '-', '*', '^'][usize::try_from(stream.below(4)).unwrap_or(0)];
            if term > 0 {
                text.push(operator);
            }
            if stream.below(3) == 0 {
                let _ = write!(text, "({}+{})", stream.below(1 << 20), stream.below(1 << 40));
            } else {
                let _ = write!(text, "{}", stream.word());
            }
        }
        text.push('\n');
    }
    text
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Number(u64),
    Sign(char),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut number = None;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let before: u64 = number.unwrap_or(0);
            number = Some(before.wrapping_mul(10).wrapping_add(digit.into()));
            continue;
        }
        tokens.extend(number.take().map(Token::Number));
        tokens.push(Token::Sign(c));
    }
    tokens.extend(number.map(Token::Number));
    tokens
}

enum Tree {
    Number(u64),
    Pair(char, Box<Tree>, Box<Tree>),
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// `product (+|-|^ product)*`
fn sum(tokens: &mut Tokens) -> Tree {
    let mut tree = product(tokens);
    while let Some(Token::Sign(sign @ ('+' | '-' | '^'))) = tokens.peek().copied() {
        tokens.next();
        tree = Tree::Pair(sign, Box::new(tree), Box::new(product(tokens)));
    }
    tree
}

/// `atom (* atom)*`
fn product(tokens: &mut Tokens) -> Tree {
    let mut tree = atom(tokens);
    while tokens.peek() == Some(&Token::Sign('*')) {
        tokens.next();
        tree = Tree::Pair('*', Box::new(tree), Box::new(atom(tokens)));
    }
    tree
}

/// A number, or a sum in parentheses.
fn atom(tokens: &mut Tokens) -> Tree {
    match tokens.next() {
        Some(Token::Number(number)) => Tree::Number(number),
        Some(Token::Sign('(')) => {
            let inner = sum(tokens);
            tokens.next();
            inner
        }
        _ => Tree::Number(0),
    }
}

fn apply(sign: char, left: u64, right: u64) -> u64 {
    match sign {
        '+' => left.wrapping_add(right),
        '-' => left.wrapping_sub(right),
        '*' => left.wrapping_mul(right),
        _ => left ^ right,
    }
}

/// Replaces pairs of two small numbers by their value.
fn fold(tree: Tree) -> Tree {
    let Tree::Pair(sign, left, right) = tree else { return tree };
    match (fold(*left), fold(*right)) {
        (Tree::Number(left), Tree::Number(right)) if left < 1 << 32 => {
            Tree::Number(apply(sign, left, right))
        }
        (left, right) => Tree::Pair(sign, Box::new(left), Box::new(right)),
    }
}

enum Code {
    Push(u64),
    Apply(char),
}

fn emit(tree: &Tree, code: &mut Vec<Code>) {
    match tree {
        Tree::Number(number) => code.push(Code::Push(*number)),
        Tree::Pair(sign, left, right) => {
            emit(left, code);
            emit(right, code);
            code.push(Code::Apply(*sign));
        }
    }
}

fn execute(code: &[Code]) -> u64 {
    let mut stack = Vec::new();
    for step in code {
        match step {
            Code::Push(number) => stack.push(*number),
            Code::Apply(sign) => {
                let right = stack.pop().unwrap_or(0);
                let left = stack.pop().unwrap_or(0);
                stack.push(apply(*sign, left, right));
            }
        }
    }
    stack.pop().unwrap_or(0)
}

/// A point that wanders by additions, products and roots, all of which IEEE 754 fixes to the last bit.
fn orbit(stream: &mut Stream) -> f64 {
    let unit = |word: u64| f64::from(u32::try_from(word >> 32).unwrap_or(0)) / 4_294_967_296.0;
    let (mut x, mut y) = (unit(stream.word()), unit(stream.word()));
    for _ in 0..2000 {
        (x, y) = ((x * x + y * y).sqrt() * 0.9 + 0.01, (x - y).abs() * 0.7 + 0.1);
    }
    x + y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_computes_what_is_written() {
        let value = |text| {
            let tree = sum(&mut tokens(text).into_iter().peekable());
            let mut code = Vec::new();
            emit(&fold(tree), &mut code);
            execute(&code)
        };
        assert_eq!(value("2+3*4"), 14);
        assert_eq!(value("(2+3)*4-1"), 19);
        assert_eq!(value("8000000000*(1+1)^1"), 16_000_000_001);
    }

    #[test]
    fn results_are_what_they_were() {
        assert_eq!(digest(1, 2), digest(1, 2));
        assert_ne!(digest(1, 2), digest(2, 2));
        assert_ne!(digest(1, 2), digest(1, 3));
    }
}
