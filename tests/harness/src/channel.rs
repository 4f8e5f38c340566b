// SPDX-License-Identifier: GPL-2.0
//! The host's end of the channel to PID 1.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use proto::{Decoder, Frame, Item, Kind};

/// What came over the channel.
#[derive(Debug)]
pub enum Event {
    /// A frame.
    Frame(Frame),
    /// A line of console text, where console and channel are one.
    Text(String),
    /// The machine closed the channel.
    Closed,
}

/// Reads `rx` in a thread of its own.
pub fn listen(mut rx: Box<dyn Read + Send>) -> Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = rx.read(&mut buffer) {
            for item in decoder.push(&buffer[..count]) {
                let _ = sender.send(event(item));
            }
        }
        for item in decoder.finish() {
            let _ = sender.send(event(item));
        }
        let _ = sender.send(Event::Closed);
    });
    receiver
}

fn event(item: Item) -> Event {
    match item {
        Item::Frame(frame) => Event::Frame(frame),
        Item::Text(text) => Event::Text(text),
    }
}

/// Sends `bytes` as frames of `kind`.
pub fn send(tx: &mut dyn Write, kind: Kind, bytes: &[u8], limit: usize) -> std::io::Result<()> {
    if bytes.is_empty() {
        return tx.write_all(Frame::new(kind, []).to_line().as_bytes());
    }
    for frame in Frame::split(kind, bytes, limit) {
        tx.write_all(frame.to_line().as_bytes())?;
    }
    tx.flush()
}
