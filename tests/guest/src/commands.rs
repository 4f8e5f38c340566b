// SPDX-License-Identifier: GPL-2.0
//! The commands by name.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use proto::Fields;

use crate::background::Background;
use crate::blocked::Blocked;
use crate::{cpu, disk, interrupts, kernel, memory, net, power, work};

/// What lasts from one command to another.
#[derive(Default)]
pub(crate) struct State {
    /// Work that goes on meanwhile.
    pub(crate) background: Option<Background>,
    /// A thread that waits with known register contents.
    pub(crate) blocked: Option<Blocked>,
}

/// The words after the name.
pub(crate) struct Arguments<'a>(std::str::SplitWhitespace<'a>);

impl Arguments<'_> {
    /// The next word as a `T`; `what` names it if it is missing or makes no sense.
    pub(crate) fn next<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let word = self.0.next().with_context(|| format!("{what} is missing"))?;
        word.parse().ok().with_context(|| format!("'{word}' is no {what}"))
    }
}

type Command = fn(&mut State, &mut Arguments<'_>) -> Result<Fields>;

/// Name, words that follow it, and what to do.
const COMMANDS: &[(&str, Command)] = &[
    ("cpu", |_, _| cpu::describe()),
    ("load", |_, words| work::load(words)),
    ("sleep", |_, words| cpu::sleep(words)),
    ("interrupts", |_, _| interrupts::count()),
    ("disk-write", |_, words| disk::write(words)),
    ("disk-read", |_, words| disk::read(words)),
    ("net", |_, words| net::exchange(words)),
    ("echo", |_, words| net::echo(words)),
    ("memory", |_, _| memory::describe()),
    ("fill", |_, words| memory::fill(words)),
    ("online-movable", |_, _| memory::online_movable()),
    ("start", |state, words| Background::start(state, words)),
    ("stop", |state, _| Background::stop(state)),
    ("block", |state, _| Blocked::start(state)),
    ("release", |state, _| Blocked::release(state)),
    ("symbol", |_, words| kernel::symbol(words)),
    ("calls", |_, words| kernel::calls(words)),
    ("step-places", |_, _| kernel::step_places()),
    ("step", |_, words| kernel::step(words)),
    ("log", |_, _| kernel::log()),
    ("reboot", |_, _| power::reboot()),
    ("poweroff", |_, _| power::off()),
    ("panic", |_, _| power::panic()),
];

/// The name and the other words of a line, if it isn't blank.
pub(crate) fn split(line: &str) -> Option<(&str, String)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    Some((name, words.collect::<Vec<_>>().join(" ")))
}

/// Carries one command out.
pub(crate) fn run(state: &mut State, name: &str, words: &str) -> Result<Fields> {
    let Some((_, command)) = COMMANDS.iter().find(|(known, _)| *known == name) else {
        bail!("no such command");
    };
    let mut words = Arguments(words.split_whitespace());
    let fields = command(state, &mut words)?;
    ensure!(words.0.next().is_none(), "too many words");
    Ok(fields)
}
