// SPDX-License-Identifier: GPL-2.0
//! What the small user space of a guest (tests/guest) says on its console.
//!
//! It is told what to do by lines `NAME ARGUMENT …` and answers each of them with one line:
//!
//! ```text
//! @guest NAME ok KEY=VALUE KEY=VALUE #CRC
//! @guest NAME FAILED what went wrong #CRC
//! ```
//!
//! The checksum (CRC-16 over what stands before ` #`, four hex digits) shows when console and kernel
//! messages got mixed up, or when the way of a character through the emulated serial port changed it.
//! Every other line is console text.

use crate::crc::crc16;

/// What a report starts with.
pub const MARK: &str = "@guest ";

/// The report that a guest makes unasked when its user space is up.
pub const READY: &str = "ready";

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The command that it answers, or [`READY`].
    pub name: String,
    /// What was found out, or what went wrong.
    pub result: Result<Fields, String>,
}

/// Named values in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// No values.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// Adds a value; what does not fit into one word of a line is replaced by `_`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Fields {
        let word: String =
            value.to_string().chars().map(|c| if fits(c) { c } else { '_' }).collect();
        self.0.push((key.to_owned(), if word.is_empty() { "_".into() } else { word }));
        self
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What became of a line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A sound report.
    Report(Report),
    /// A report that was damaged on its way.
    Damaged,
    /// Anything else.
    Text,
}

impl Report {
    /// The line for this report, without a line end.
    pub fn to_line(&self) -> String {
        let body = match &self.result {
            Ok(fields) => {
                let words = fields.iter().map(|(key, value)| format!(" {key}={value}"));
                format!("{MARK}{} ok{}", self.name, words.collect::<String>())
            }
            Err(what) => {
                let what: String =
                    what.chars().map(|c| if c.is_control() { '/' } else { c }).collect();
                format!("{MARK}{} FAILED {what}", self.name)
            }
        };
        let sum = crc16(0, body.as_bytes());
        format!("{body} #{sum:04x}")
    }

    /// Judges a line of the console (without its line end).
    pub fn read(line: &str) -> Line {
        let Some(at) = line.find(MARK) else { return Line::Text };
        match Report::parse(&line[at..]) {
            Some(report) if at == 0 => Line::Report(report),
            _ => Line::Damaged,
        }
    }

    fn parse(line: &str) -> Option<Report> {
        let (body, sum) = line.rsplit_once(" #")?;
        if sum.len() != 4 || u16::from_str_radix(sum, 16).ok()? != crc16(0, body.as_bytes()) {
            return None;
        }
        let (name, rest) = body.strip_prefix(MARK)?.split_once(' ')?;
        if let Some(what) = rest.strip_prefix("FAILED ") {
            return Some(Report { name: name.into(), result: Err(what.into()) });
        }
        let mut words = rest.split(' ');
        if words.next() != Some("ok") {
            return None;
        }
        let mut fields = Fields::new();
        for word in words {
            let (key, value) = word.split_once('=')?;
            if key.is_empty() || value.is_empty() || fields.get(key).is_some() {
                return None;
            }
            fields = fields.with(key, value);
        }
        Some(Report { name: name.into(), result: Ok(fields) })
    }
}

fn fits(c: char) -> bool {
    c.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(result: Result<Fields, String>) -> Report {
        Report { name: "cpu".into(), result }
    }

    #[test]
    fn a_report_survives_its_line() {
        let good = report(Ok(Fields::new().with("online", 2).with("clock", "kvm clock")));
        let Line::Report(back) = Report::read(&good.to_line()) else { panic!("not read") };
        assert_eq!(back, good);
        let Ok(fields) = back.result else { panic!("not ok") };
        assert_eq!(fields.get("online"), Some("2"));
        assert_eq!(fields.get("clock"), Some("kvm_clock"));
        let bad = report(Err("no such file: /x #1".into()));
        assert_eq!(Report::read(&bad.to_line()), Line::Report(bad));
        let empty = report(Ok(Fields::new()));
        assert_eq!(Report::read(&empty.to_line()), Line::Report(empty));
    }

    #[test]
    fn what_is_not_sound_is_damaged() {
        let line = report(Ok(Fields::new().with("online", 2))).to_line();
        assert_eq!(Report::read(&line.replace("=2", "=3")), Line::Damaged);
        assert_eq!(Report::read(&line[..line.len() - 1]), Line::Damaged);
        assert_eq!(Report::read(&format!("[ 1.0] x {line}")), Line::Damaged);
        assert_eq!(Report::read("@guest "), Line::Damaged);
        assert_eq!(Report::read("[ 1.0] kvm-guest: booting"), Line::Text);
    }

    #[test]
    fn a_text_is_kept_to_one_line() {
        assert!(!report(Err("a\nb".into())).to_line().contains('\n'));
    }
}
