// SPDX-License-Identifier: GPL-2.0
//! QEMU's log of executed instructions, cut into exits: what the machine does between two instructions of
//! its guest.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result};

/// Of the flags in a line, the one that says that a guest of the machine's runs.
const IN_GUEST: u64 = 1 << 21;

/// The addresses of one exit's instructions, in the order in which they were executed.
pub(super) type Exit = Vec<u64>;

/// The exits of `log`.
pub(super) fn exits(log: impl Read) -> Result<Vec<Exit>> {
    let mut exits = Vec::new();
    // What comes before the first instruction of the guest isn't a whole exit, nor what follows the last.
    let mut current: Option<Exit> = None;
    for line in BufReader::new(log).split(b'\n') {
        let line = line.context("reading the log of instructions")?;
        let Some((address, flags)) = parse(&String::from_utf8_lossy(&line)) else { continue };
        if flags & IN_GUEST == 0 {
            if let Some(exit) = &mut current {
                exit.push(address);
            }
        } else {
            let whole = current.replace(Exit::new()).filter(|exit| !exit.is_empty());
            exits.extend(whole);
        }
    }
    Ok(exits)
}

/// Address and flags of a line like `Trace 0: 0x7f0000 [0000000000000000/ffffffff81000000/00c0b3/ff000201] name`.
fn parse(line: &str) -> Option<(u64, u64)> {
    let (_, fields) = line.strip_prefix("Trace ")?.split_once('[')?;
    let mut fields = fields.split(['/', ']']);
    let _segment = fields.next()?;
    let mut number = || u64::from_str_radix(fields.next()?, 16).ok();
    Some((number()?, number()?))
}

/// The exit of the length that most have: one without the host's timer in it. And how many have it.
pub(super) fn usual(exits: &[Exit]) -> Option<(&Exit, usize)> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for exit in exits {
        *counts.entry(exit.len()).or_default() += 1;
    }
    let (length, count) =
        counts.into_iter().max_by_key(|(length, count)| (*count, usize::MAX - length))?;
    let exit = exits.iter().filter(|exit| exit.len() == length).nth(count / 2)?;
    Some((exit, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_becomes_exits() {
        let line = |address: u64, flags: u64| {
            format!("Trace 0: 0x7f00 [00000000/{address:016x}/{flags:08x}/ff000201] f\n")
        };
        let (host, guest) = (0xc0b3, 0xc0b3 | IN_GUEST);
        let log: String = [
            (1, host),
            (2, guest),
            (3, host),
            (4, host),
            (5, guest),
            (6, guest),
            (7, host),
            (8, guest),
            (9, host),
            (10, host),
            (11, guest),
            (12, host),
        ]
        .map(|(address, flags)| line(address, flags))
        .concat();
        let exits = exits(format!("nothing\n{log}").as_bytes()).unwrap();
        assert_eq!(exits, [vec![3, 4], vec![7], vec![9, 10]]);
        assert_eq!(usual(&exits), Some((&vec![9, 10], 2)));
        assert_eq!(usual(&[]), None);
    }
}
