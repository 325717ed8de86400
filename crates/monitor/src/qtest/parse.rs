//! One line of the qtest protocol, read: words to a [`Command`], or the reason why not.
//!
//! Where QEMU stops the whole process (a missing word, a number that is none, a port above 0xffff), this gives an error; it
//! is also stricter where QEMU guesses (hexadecimal data without `0x` or with too few digits). Numbers follow C's `strtoull`:
//! `0x10`, `010`, `16`, `-1`.

use crate::hmp::expr::c_number;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use thiserror::Error;

/// The most bytes that one command may move: enough for any RAM of our boards, too little to exhaust the host.
pub const MAX_LENGTH: u64 = 1 << 30;

/// A command of the protocol. Addresses are physical, as the boot CPU sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `endianness`
    Endianness,
    /// `readb|w|l|q ADDR`: one integer of 1, 2, 4 or 8 bytes in the target's byte order.
    Load {
        /// Bytes.
        size: u32,
        /// Where.
        addr: u64,
    },
    /// `writeb|w|l|q ADDR VALUE`; the value is cut to the size.
    Store {
        /// Bytes.
        size: u32,
        /// Where.
        addr: u64,
        /// What.
        value: u64,
    },
    /// `read ADDR LEN` (answer in hexadecimal) and `b64read ADDR LEN`.
    Read {
        /// Where from.
        addr: u64,
        /// Bytes, at least 1.
        len: usize,
        /// Answer in base64.
        base64: bool,
    },
    /// `write ADDR LEN 0xHEX` and `b64write ADDR LEN BASE64`.
    Write {
        /// Where to.
        addr: u64,
        /// What.
        data: Vec<u8>,
    },
    /// `memset ADDR LEN BYTE`
    Memset {
        /// Where to.
        addr: u64,
        /// Bytes.
        len: usize,
        /// With what.
        byte: u8,
    },
    /// `inb|w|l PORT`
    In {
        /// Bytes: 1, 2 or 4.
        size: u32,
        /// The port.
        port: u16,
    },
    /// `outb|w|l PORT VALUE`
    Out {
        /// Bytes: 1, 2 or 4.
        size: u32,
        /// The port.
        port: u16,
        /// What.
        value: u32,
    },
    /// `irq_intercept_in|out PATH`: report level changes of a device's lines.
    Intercept {
        /// QOM path of the device.
        path: String,
        /// Lines that it drives, not those that it receives.
        outputs: bool,
        /// A named group of lines; the unnamed ones without it.
        name: Option<String>,
    },
    /// `set_irq_in PATH NAME NUM LEVEL`
    SetIrq {
        /// QOM path of the device.
        path: String,
        /// Group of lines; none for `unnamed-gpio-in`.
        name: Option<String>,
        /// Which line of the group.
        number: usize,
        /// High.
        level: bool,
    },
    /// `clock_step [NS]`: without a time, to the next timer.
    ClockStep(Option<i64>),
    /// `clock_set NS`
    ClockSet(i64),
    /// `module_load PREFIX LIB`
    ModuleLoad {
        /// Kind of module.
        prefix: String,
        /// Its name.
        library: String,
    },
    /// `rtas NAME NARGS ARGS NRET RETS`
    Rtas,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// No word at all.
    #[error("Empty command")]
    Empty,
    /// A first word that is no command.
    #[error("Unknown command '{0}'")]
    Unknown(String),
    /// A word is missing.
    #[error("{command}: {what} is missing, expected '{usage}'")]
    Missing {
        /// The command.
        command: &'static str,
        /// Which parameter.
        what: &'static str,
        /// How it should look.
        usage: &'static str,
    },
    /// A word that should be a number.
    #[error("{command}: {what} '{text}' is not a number (0x… hexadecimal, 0… octal or decimal, 64 bits)")]
    NotANumber {
        /// The command.
        command: &'static str,
        /// Which parameter.
        what: &'static str,
        /// The word.
        text: String,
    },
    /// A number out of its range.
    #[error("{command}: {what} {value:#x} is out of range, at most {most:#x}")]
    OutOfRange {
        /// The command.
        command: &'static str,
        /// Which parameter.
        what: &'static str,
        /// The number.
        value: u64,
        /// The largest that is taken.
        most: u64,
    },
    /// A length of 0 where bytes are needed.
    #[error("{0}: length must not be 0")]
    ZeroLength(&'static str),
    /// Data that is not `0x` and pairs of hexadecimal digits.
    #[error("{0}: data must be 0x and two hexadecimal digits for each byte")]
    NotHex(&'static str),
    /// Data that is not base64.
    #[error("{0}: data is not base64")]
    NotBase64(&'static str),
    /// Data of another length than said.
    #[error("{command}: data has {have} bytes where the length says {len}")]
    WrongLength {
        /// The command.
        command: &'static str,
        /// Bytes given.
        have: usize,
        /// Bytes announced.
        len: usize,
    },
}

/// Words of a line, with the command that they belong to.
struct Words<'a> {
    command: &'static str,
    usage: &'static str,
    words: std::str::SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn word(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        self.words.next().ok_or(ParseError::Missing { command: self.command, what, usage: self.usage })
    }

    fn number(&mut self, what: &'static str) -> Result<u64, ParseError> {
        let text = self.word(what)?;
        number(text).ok_or_else(|| ParseError::NotANumber {
            command: self.command,
            what,
            text: text.to_owned(),
        })
    }

    fn at_most(&mut self, what: &'static str, most: u64) -> Result<u64, ParseError> {
        let value = self.number(what)?;
        if value > most {
            return Err(ParseError::OutOfRange { command: self.command, what, value, most });
        }
        Ok(value)
    }

    fn length(&mut self) -> Result<usize, ParseError> {
        // MAX_LENGTH fits every usize that this workspace is built for.
        self.at_most("length", MAX_LENGTH).map(|len| usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn nonzero_length(&mut self) -> Result<usize, ParseError> {
        match self.length()? {
            0 => Err(ParseError::ZeroLength(self.command)),
            len => Ok(len),
        }
    }

    fn time(&mut self) -> Result<i64, ParseError> {
        self.at_most("time in ns", i64::MAX.cast_unsigned()).map(u64::cast_signed)
    }

    fn port(&mut self) -> Result<u16, ParseError> {
        self.at_most("port", 0xffff).map(|port| port as u16)
    }
}

/// A C integer, whole; a minus sign wraps it as `strtoull` does.
fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match c_number(digits) {
        Some((value, "")) => Some(if negative { value.wrapping_neg() } else { value }),
        _ => None,
    }
}

/// The commands with their usage. The first word must be one of them exactly.
const USAGE: &[(&str, &str)] = &[
    ("endianness", "endianness"),
    ("readb", "readb ADDR"),
    ("readw", "readw ADDR"),
    ("readl", "readl ADDR"),
    ("readq", "readq ADDR"),
    ("writeb", "writeb ADDR VALUE"),
    ("writew", "writew ADDR VALUE"),
    ("writel", "writel ADDR VALUE"),
    ("writeq", "writeq ADDR VALUE"),
    ("read", "read ADDR LEN"),
    ("b64read", "b64read ADDR LEN"),
    ("write", "write ADDR LEN 0xHEX"),
    ("b64write", "b64write ADDR LEN BASE64"),
    ("memset", "memset ADDR LEN BYTE"),
    ("inb", "inb PORT"),
    ("inw", "inw PORT"),
    ("inl", "inl PORT"),
    ("outb", "outb PORT VALUE"),
    ("outw", "outw PORT VALUE"),
    ("outl", "outl PORT VALUE"),
    ("irq_intercept_in", "irq_intercept_in QOMPATH"),
    ("irq_intercept_out", "irq_intercept_out QOMPATH"),
    ("set_irq_in", "set_irq_in QOMPATH NAME|unnamed-gpio-in NUM LEVEL"),
    ("clock_step", "clock_step [NS]"),
    ("clock_set", "clock_set NS"),
    ("module_load", "module_load PREFIX LIB"),
    ("rtas", "rtas NAME NARGS ARGS NRET RETS"),
];

/// Bytes moved by a command whose name ends in `b`, `w`, `l` or `q`.
fn size_of(command: &str) -> u32 {
    match command.as_bytes().last() {
        Some(b'b') => 1,
        Some(b'w') => 2,
        Some(b'l') => 4,
        _ => 8,
    }
}

/// Reads one line, without its line break.
///
/// # Errors
/// [`ParseError`] says what is wrong with which word.
pub fn parse(line: &str) -> Result<Command, ParseError> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next().ok_or(ParseError::Empty)?;
    let Some(&(command, usage)) = USAGE.iter().find(|(name, _)| *name == first) else {
        return Err(ParseError::Unknown(first.to_owned()));
    };
    let size = size_of(command);
    let mut w = Words { command, usage, words };
    Ok(match command {
        "endianness" => Command::Endianness,
        "read" | "b64read" => Command::Read {
            addr: w.number("address")?,
            len: w.nonzero_length()?,
            base64: command == "b64read",
        },
        "write" | "b64write" => {
            let (addr, len) = (w.number("address")?, w.length()?);
            let data = data(command, w.word("data")?)?;
            if data.len() != len {
                return Err(ParseError::WrongLength { command, have: data.len(), len });
            }
            Command::Write { addr, data }
        }
        "memset" => {
            Command::Memset { addr: w.number("address")?, len: w.length()?, byte: w.number("byte")? as u8 }
        }
        "inb" | "inw" | "inl" => Command::In { size, port: w.port()? },
        "outb" | "outw" | "outl" => Command::Out { size, port: w.port()?, value: w.number("value")? as u32 },
        "irq_intercept_in" | "irq_intercept_out" => Command::Intercept {
            path: w.word("QOM path")?.to_owned(),
            outputs: command.ends_with("out"),
            name: w.words.next().map(str::to_owned),
        },
        "set_irq_in" => Command::SetIrq {
            path: w.word("QOM path")?.to_owned(),
            name: Some(w.word("name")?.to_owned()).filter(|name| name != "unnamed-gpio-in"),
            number: w.at_most("number", 0xffff)? as usize,
            level: w.number("level")? != 0,
        },
        "clock_step" => {
            let mut peek = w.words.clone();
            Command::ClockStep(peek.next().is_some().then(|| w.time()).transpose()?)
        }
        "clock_set" => Command::ClockSet(w.time()?),
        "module_load" => Command::ModuleLoad {
            prefix: w.word("prefix")?.to_owned(),
            library: w.word("library")?.to_owned(),
        },
        "rtas" => Command::Rtas,
        _ if command.starts_with("read") => Command::Load { size, addr: w.number("address")? },
        _ => Command::Store { size, addr: w.number("address")?, value: w.number("value")? },
    })
}

fn data(command: &'static str, text: &str) -> Result<Vec<u8>, ParseError> {
    if command == "b64write" {
        return BASE64.decode(text.as_bytes()).map_err(|_| ParseError::NotBase64(command));
    }
    let digits = text.strip_prefix("0x").ok_or(ParseError::NotHex(command))?;
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| ParseError::NotHex(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_protocol_is_read() {
        for (line, expected) in [
            ("endianness", Command::Endianness),
            ("readb 0x10", Command::Load { size: 1, addr: 0x10 }),
            ("  readw  010 ", Command::Load { size: 2, addr: 8 }),
            ("readl 16", Command::Load { size: 4, addr: 16 }),
            ("readq 0xffffffffffffffff", Command::Load { size: 8, addr: u64::MAX }),
            ("writeb 1 2", Command::Store { size: 1, addr: 1, value: 2 }),
            ("writel 8 -1", Command::Store { size: 4, addr: 8, value: u64::MAX }),
            (
                "writeq 8 0x1122334455667788",
                Command::Store { size: 8, addr: 8, value: 0x1122_3344_5566_7788 },
            ),
            ("read 0 4", Command::Read { addr: 0, len: 4, base64: false }),
            ("b64read 0 0x4", Command::Read { addr: 0, len: 4, base64: true }),
            ("write 0 2 0xA1b2", Command::Write { addr: 0, data: vec![0xa1, 0xb2] }),
            ("b64write 0x30 4 AQIDBA==", Command::Write { addr: 0x30, data: vec![1, 2, 3, 4] }),
            ("memset 0 0 0x1ab", Command::Memset { addr: 0, len: 0, byte: 0xab }),
            ("inb 0x3fd", Command::In { size: 1, port: 0x3fd }),
            ("inl 0xcfc", Command::In { size: 4, port: 0xcfc }),
            ("outw 0x80 0x1ff", Command::Out { size: 2, port: 0x80, value: 0x1ff }),
            (
                "irq_intercept_out /machine/rtc",
                Command::Intercept { path: "/machine/rtc".to_owned(), outputs: true, name: None },
            ),
            (
                "irq_intercept_in ioapic",
                Command::Intercept { path: "ioapic".to_owned(), outputs: false, name: None },
            ),
            (
                "set_irq_in /machine/pic unnamed-gpio-in 3 1",
                Command::SetIrq { path: "/machine/pic".to_owned(), name: None, number: 3, level: true },
            ),
            (
                "set_irq_in /machine/pic reset 0 0",
                Command::SetIrq {
                    path: "/machine/pic".to_owned(),
                    name: Some("reset".to_owned()),
                    number: 0,
                    level: false,
                },
            ),
            ("clock_step", Command::ClockStep(None)),
            ("clock_step 100", Command::ClockStep(Some(100))),
            ("clock_set 1000", Command::ClockSet(1000)),
            ("module_load a b", Command::ModuleLoad { prefix: "a".to_owned(), library: "b".to_owned() }),
            ("rtas nvram 0 0 0 0", Command::Rtas),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn each_line_that_stops_qemu_is_an_error_that_says_why() {
        for (line, reason) in [
            ("", "Empty command"),
            ("foo 1", "Unknown command 'foo'"),
            ("readb", "readb: address is missing, expected 'readb ADDR'"),
            (
                "readb xyz",
                "readb: address 'xyz' is not a number (0x… hexadecimal, 0… octal or decimal, 64 bits)",
            ),
            (
                "readb 0x",
                "readb: address '0x' is not a number (0x… hexadecimal, 0… octal or decimal, 64 bits)",
            ),
            ("writeb 0", "writeb: value is missing, expected 'writeb ADDR VALUE'"),
            ("read 0 0", "read: length must not be 0"),
            ("read 0 0xffffffffffff", "read: length 0xffffffffffff is out of range, at most 0x40000000"),
            ("write 0 4 01020304", "write: data must be 0x and two hexadecimal digits for each byte"),
            ("write 0 1 0xzz", "write: data must be 0x and two hexadecimal digits for each byte"),
            ("write 0 4 0x01", "write: data has 1 bytes where the length says 4"),
            ("b64write 0 4 A!", "b64write: data is not base64"),
            ("inb 0x10000", "inb: port 0x10000 is out of range, at most 0xffff"),
            (
                "irq_intercept_in",
                "irq_intercept_in: QOM path is missing, expected 'irq_intercept_in QOMPATH'",
            ),
            (
                "clock_step -1",
                "clock_step: time in ns 0xffffffffffffffff is out of range, at most 0x7fffffffffffffff",
            ),
            ("module_load a", "module_load: library is missing, expected 'module_load PREFIX LIB'"),
        ] {
            assert_eq!(parse(line).map_err(|e| e.to_string()), Err(reason.to_owned()), "{line}");
        }
    }
}
