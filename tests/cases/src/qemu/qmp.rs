// SPDX-License-Identifier: GPL-2.0
//! QEMU's monitor, in its machine protocol: JSON objects, one a line.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tinyjson::JsonValue;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(120);

/// A value that QEMU sent.
#[derive(Clone, Debug)]
pub(crate) struct Value(JsonValue);

/// What is there in place of what is missing.
const NOTHING: JsonValue = JsonValue::Null;

impl Value {
    /// A field of an object; nothing if there is none.
    pub(crate) fn field(&self, name: &str) -> Value {
        let object: Option<&HashMap<String, JsonValue>> = self.0.get();
        Value(object.and_then(|object| object.get(name)).cloned().unwrap_or(NOTHING))
    }

    /// Whether there is anything.
    fn is_there(&self) -> bool {
        !self.0.is_null()
    }

    /// A string, empty if it is something else.
    pub(crate) fn text(&self) -> &str {
        self.0.get::<String>().map_or("", String::as_str)
    }

    /// A number that is not negative.
    pub(crate) fn number(&self) -> Option<u64> {
        let number = *self.0.get::<f64>()?;
        // JSON knows one kind of numbers; QEMU's counts and sizes are exact in it.
        (number >= 0.0).then_some(number as u64)
    }

    /// The elements of an array, none if it is something else.
    pub(crate) fn elements(&self) -> Vec<Value> {
        let array: Option<&Vec<JsonValue>> = self.0.get();
        array.into_iter().flatten().cloned().map(Value).collect()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.stringify().unwrap_or_default())
    }
}

/// An argument of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// A string.
    Text(&'a str),
    /// A number below 2^53.
    Number(u64),
}

impl From<Argument<'_>> for JsonValue {
    fn from(argument: Argument<'_>) -> Self {
        match argument {
            Argument::Text(text) => text.to_owned().into(),
            Argument::Number(number) => (number as f64).into(),
        }
    }
}

/// A connection on which commands are accepted.
pub(crate) struct Qmp {
    output: UnixStream,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Greets QEMU on `stream`.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        let input = BufReader::new(stream.try_clone().context("duplicating the monitor's line")?);
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in input.lines() {
                let Ok(line) = line else { break };
                // QEMU writes nothing else; what isn't JSON will be missed as an answer.
                if let Ok(message) = line.parse() {
                    let _ = sender.send(Value(message));
                }
            }
        });
        let mut qmp = Self { output: stream, messages, events: VecDeque::new() };
        let greeting = qmp.message(Instant::now() + ANSWER).context("QEMU's greeting")?;
        if !greeting.field("QMP").is_there() {
            bail!("QEMU's greeting is {greeting}");
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Executes a command without arguments.
    pub(crate) fn execute(&mut self, command: &str) -> Result<Value> {
        self.execute_with(command, &[])
    }

    /// Executes a command and returns what it returns.
    pub(crate) fn execute_with(
        &mut self,
        command: &str,
        arguments: &[(&str, Argument<'_>)],
    ) -> Result<Value> {
        let arguments: HashMap<String, JsonValue> =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let request = HashMap::from([
            ("execute".to_owned(), JsonValue::from(command.to_owned())),
            ("arguments".to_owned(), JsonValue::from(arguments)),
        ]);
        let text = JsonValue::from(request).stringify().context("a command")?;
        let sent = self.output.write_all(format!("{text}\n").as_bytes());
        sent.with_context(|| format!("sending {command}"))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let message =
                self.message(deadline).with_context(|| format!("the answer to {command}"))?;
            let error = message.field("error");
            if message.field("event").is_there() {
                self.events.push_back(message);
            } else if error.is_there() {
                bail!("{command}: {error}");
            } else {
                return Ok(message.field("return"));
            }
        }
    }

    /// Waits for the event called `name`; its data. Earlier events are forgotten.
    pub(crate) fn event(&mut self, name: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let message = match self.events.pop_front() {
                Some(event) => event,
                None => self.message(deadline).with_context(|| format!("waiting for {name}"))?,
            };
            if message.field("event").text() == name {
                return Ok(message.field("data"));
            }
        }
    }

    /// Waits until the status (`running`, `paused`, …) is `wanted`.
    pub(crate) fn await_status(&mut self, wanted: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.execute("query-status")?;
            if status.field("status").text() == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the status is {status}, not {wanted}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn message(&mut self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.messages.recv_timeout(left) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => bail!("QEMU's monitor is silent"),
            Err(RecvTimeoutError::Disconnected) => bail!("QEMU's monitor was closed"),
        }
    }
}
