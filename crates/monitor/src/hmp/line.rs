//! Turns a client's key strokes into lines, with the echo that a client of QEMU's monitor gets.
//!
//! Enough for `nc`, `socat`, a terminal program on a pseudo terminal and the console of `-nographic`: printable characters are
//! echoed, backspace and Ctrl-U delete, the up and down keys go through earlier lines, Tab completes, Return ends a line. It is not
//! the line editor of a terminal (moving in the line, searching): that one belongs to whoever owns the terminal.

use super::complete;

/// The longest line; more is dropped, as QEMU does (its limit is 4095 bytes).
pub const MAX_LINE: usize = 4095;

/// How many earlier lines are kept.
const HISTORY: usize = 64;

/// The state of the line being typed.
#[derive(Debug, Default)]
pub struct LineInput {
    line: Vec<u8>,
    escape: Escape,
    after_return: bool,
    earlier: Vec<Vec<u8>>,
    /// Which of the earlier lines is shown; past them all: the new one.
    shown: usize,
}

/// How far into an escape sequence (an arrow key, say) we are.
#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Control,
}

/// What a byte has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing to do.
    Nothing,
    /// Send this back to the client.
    Echo(Vec<u8>),
    /// The line is complete; a line break is to be sent back first.
    Line(String),
}

impl LineInput {
    /// Forgets the line being typed, and what an earlier client typed.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes one byte from the client.
    pub fn byte(&mut self, byte: u8) -> Typed {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        match self.escape {
            Escape::Started => {
                self.escape = if matches!(byte, b'[' | b'O') { Escape::Control } else { Escape::None };
                return Typed::Nothing;
            }
            Escape::Control => return self.control(byte),
            Escape::None => {}
        }
        match byte {
            b'\n' if after_return => Typed::Nothing,
            b'\r' | b'\n' => self.end(),
            0x1b => {
                self.escape = Escape::Started;
                Typed::Nothing
            }
            0x08 | 0x7f => {
                if self.line.is_empty() {
                    return Typed::Nothing;
                }
                // One character, which may be several bytes of UTF-8.
                while self.line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
                Typed::Echo(b"\x08 \x08".to_vec())
            }
            0x15 => self.replace(Vec::new()),
            b'\t' => self.complete(),
            0..0x20 => Typed::Nothing,
            _ => self.push(&[byte]),
        }
    }

    fn end(&mut self) -> Typed {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.earlier.last() != Some(&line) {
            if self.earlier.len() == HISTORY {
                self.earlier.remove(0);
            }
            self.earlier.push(line.clone());
        }
        self.shown = self.earlier.len();
        Typed::Line(String::from_utf8_lossy(&line).into_owned())
    }

    /// The rest of an escape sequence; all but up and down is dropped.
    fn control(&mut self, byte: u8) -> Typed {
        if (0x40..=0x7e).contains(&byte) {
            self.escape = Escape::None;
        }
        let wanted = match byte {
            b'A' => self.shown.checked_sub(1),
            b'B' if self.shown < self.earlier.len() => Some(self.shown + 1),
            _ => None,
        };
        match wanted {
            Some(number) => {
                self.shown = number;
                self.replace(self.earlier.get(number).cloned().unwrap_or_default())
            }
            None => Typed::Nothing,
        }
    }

    /// Puts another line in place of the one being typed.
    fn replace(&mut self, line: Vec<u8>) -> Typed {
        let old = String::from_utf8_lossy(&std::mem::replace(&mut self.line, line)).chars().count();
        let mut echo = b"\x08 \x08".repeat(old);
        echo.extend_from_slice(&self.line);
        if echo.is_empty() { Typed::Nothing } else { Typed::Echo(echo) }
    }

    /// Completes the last word as far as its candidates agree.
    fn complete(&mut self) -> Typed {
        let Ok(line) = str::from_utf8(&self.line) else { return Typed::Nothing };
        let (start, candidates) = complete(line);
        let typed = line.len() - start;
        let Some(first) = candidates.first() else { return Typed::Nothing };
        let mut common = first.as_str();
        while !candidates.iter().all(|candidate| candidate.starts_with(common)) {
            common = common.get(..common.len() - 1).unwrap_or_default();
        }
        let mut more = common.get(typed..).unwrap_or_default().to_owned();
        if candidates.len() == 1 {
            more.push(' ');
        }
        self.push(more.as_bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> Typed {
        if bytes.is_empty() || self.line.len() + bytes.len() > MAX_LINE {
            return Typed::Nothing;
        }
        self.line.extend_from_slice(bytes);
        Typed::Echo(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> (Vec<String>, String) {
        let mut typed = LineInput::default();
        let (mut lines, mut echo) = (Vec::new(), Vec::new());
        for &byte in input {
            match typed.byte(byte) {
                Typed::Nothing => {}
                Typed::Echo(bytes) => echo.extend(bytes),
                Typed::Line(line) => lines.push(line),
            }
        }
        (lines, String::from_utf8(echo).unwrap())
    }

    #[test]
    fn any_line_end_ends_a_line_once() {
        assert_eq!(lines(b"a\nb\r\nc\r\rd").0, ["a", "b", "c", ""]);
    }

    #[test]
    fn deleting_takes_back_what_was_typed() {
        assert_eq!(lines(b"infx\x7fo\n"), (vec!["info".to_owned()], "infx\x08 \x08o".to_owned()));
        assert_eq!(lines("é\x08x\n".as_bytes()).0, ["x"]);
        assert_eq!(lines(b"ab\x15c\n").0, ["c"]);
        assert_eq!(lines(b"\x7f\x15\n").0, [""]);
    }

    #[test]
    fn up_and_down_go_through_earlier_lines() {
        assert_eq!(lines(b"a\nb\n\x1b[A\x1b[A\n").0, ["a", "b", "a"]);
        assert_eq!(lines(b"a\nb\nxy\x1bOA\x1b[B\n").0, ["a", "b", ""]);
        assert_eq!(lines(b"\x1b[A\x1b[B\n").0, [""]);
        assert_eq!(lines(b"ab\nx\x1b[A").1, "abx\x08 \x08ab");
    }

    #[test]
    fn tab_completes_what_is_unambiguous() {
        assert_eq!(lines(b"info mt\t-f\n").0, ["info mtree -f"]);
        assert_eq!(lines(b"sys\tr\t\n").0, ["system_reset "]);
        assert_eq!(lines(b"zzz\t\t\n"), (vec!["zzz".to_owned()], "zzz".to_owned()));
    }

    #[test]
    fn other_keys_and_control_characters_leave_no_trace() {
        assert_eq!(lines(b"a\x1b[C\x1b[1;5Db\x01\n"), (vec!["ab".to_owned()], "ab".to_owned()));
    }

    #[test]
    fn a_line_has_a_greatest_length() {
        assert_eq!(lines(&[b"x".repeat(10_000), b"\n".to_vec()].concat()).0[0].len(), MAX_LINE);
    }
}
