//! Cuts a byte stream into JSON values, so that several commands may come in one packet and one command in several.
//!
//! It only counts brackets and strings; whether a piece is good JSON is for `serde_json` to say. After a piece that is not,
//! reading goes on at the next one, as QEMU does. Like QEMU it also takes strings in single quotes, which people type by hand; they
//! are rewritten to double quotes.
//!
//! What it holds is bounded: a piece longer than [`MAX_BYTES`] or nested deeper than [`MAX_DEPTH`] is dropped up to the end of
//! its line and reported.

/// The longest piece, in bytes. QEMU allows 64 MiB; no command of ours is long.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting that is passed on: what `serde_json` takes.
pub const MAX_DEPTH: usize = 120;

/// One piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The text of what should be one JSON value.
    Text(String),
    /// Something that cannot be; the reason, to follow `JSON parse error, `.
    Bad(String),
}

/// The state between two packets.
#[derive(Debug, Default)]
pub struct Framer {
    text: Vec<u8>,
    /// The brackets that are open, as the bytes that close them.
    open: Vec<u8>,
    /// The quote that the string we are in began with.
    quote: Option<u8>,
    escaped: bool,
    /// After an error: skip to the end of the line.
    skipping: bool,
}

impl Framer {
    /// Takes the next bytes; gives the pieces that they complete, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            self.byte(byte, &mut pieces);
        }
        pieces
    }

    fn byte(&mut self, byte: u8, pieces: &mut Vec<Piece>) {
        // 0xff stands in no UTF-8 text: clients send it to get rid of whatever half a command is pending.
        if byte == 0xff {
            self.fail("stray '\\xff', the pending input is dropped", pieces);
            self.skipping = false;
            return;
        }
        if self.skipping {
            self.skipping = byte != b'\n';
            return;
        }
        if let Some(quote) = self.quote {
            self.in_string(byte, quote, pieces);
            return;
        }
        match byte {
            b'"' | b'\'' => {
                self.quote = Some(byte);
                self.text.push(b'"');
                return;
            }
            b'{' | b'[' => {
                // `1{` : the scalar ends where the object starts.
                if self.open.is_empty() {
                    self.finish(pieces);
                }
                self.open.push(if byte == b'{' { b'}' } else { b']' });
                self.text.push(byte);
                if self.open.len() > MAX_DEPTH {
                    self.fail("nesting depth limit exceeded", pieces);
                    self.skipping = true;
                }
            }
            b'}' | b']' if self.open.is_empty() => {
                self.finish(pieces);
                pieces.push(Piece::Bad("expecting value".to_owned()));
            }
            b'}' | b']' if self.open.pop() == Some(byte) => {
                self.text.push(byte);
                if self.open.is_empty() {
                    self.finish(pieces);
                }
            }
            b'}' | b']' => {
                self.fail("brackets do not match", pieces);
                self.skipping = true;
            }
            b' ' | b'\t' | b'\r' | b'\n' if self.open.is_empty() => self.finish(pieces),
            _ => self.text.push(byte),
        }
        self.check_length(pieces);
    }

    fn in_string(&mut self, byte: u8, quote: u8, pieces: &mut Vec<Piece>) {
        if self.escaped {
            self.escaped = false;
            if byte == b'\'' {
                // JSON has no `\'`: the backslash goes.
                self.text.pop();
            }
            self.text.push(byte);
        } else if byte == quote {
            self.quote = None;
            self.text.push(b'"');
            if self.open.is_empty() {
                self.finish(pieces);
            }
        } else if byte == b'\n' {
            // A JSON string holds no line break: the quote was never closed. Start again at the next line.
            self.fail("missing closing quote of a string", pieces);
        } else {
            self.escaped = byte == b'\\';
            if byte == b'"' {
                self.text.push(b'\\');
            }
            self.text.push(byte);
        }
        self.check_length(pieces);
    }

    fn check_length(&mut self, pieces: &mut Vec<Piece>) {
        if self.text.len() > MAX_BYTES {
            self.fail("token size limit exceeded", pieces);
            self.skipping = true;
        }
    }

    fn fail(&mut self, reason: &str, pieces: &mut Vec<Piece>) {
        *self = Self::default();
        pieces.push(Piece::Bad(reason.to_owned()));
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if self.text.is_empty() {
            return;
        }
        pieces.push(match String::from_utf8(std::mem::take(&mut self.text)) {
            Ok(text) => Piece::Text(text),
            Err(_) => Piece::Bad("invalid UTF-8 sequence in string".to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<Piece> {
        Framer::default().push(input.as_bytes())
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn commands_need_no_separator_and_may_span_lines() {
        assert_eq!(texts("{\"a\":1}{\"b\":\"}\"}"), [text("{\"a\":1}"), text("{\"b\":\"}\"}")]);
        assert_eq!(texts("{\n \"a\": [\n1]}\r\n"), [text("{\n \"a\": [\n1]}")]);
    }

    #[test]
    fn a_command_may_come_byte_by_byte() {
        let mut framer = Framer::default();
        let mut pieces = Vec::new();
        for byte in b"{\"a\":\"\\\"{\"} 7 \"x\" true\n" {
            pieces.extend(framer.push(&[*byte]));
        }
        assert_eq!(pieces, [text("{\"a\":\"\\\"{\"}"), text("7"), text("\"x\""), text("true")]);
    }

    #[test]
    fn single_quoted_strings_become_json() {
        assert_eq!(texts("{'a':'say \"hi\" it\\'s'}"), [text("{\"a\":\"say \\\"hi\\\" it's\"}")]);
    }

    #[test]
    fn reading_goes_on_after_an_error() {
        assert_eq!(
            texts("}\n{\"a\":1}\n{\"open\n{\"b\":2}"),
            [
                Piece::Bad("expecting value".to_owned()),
                text("{\"a\":1}"),
                Piece::Bad("missing closing quote of a string".to_owned()),
                text("{\"b\":2}"),
            ]
        );
    }

    #[test]
    fn ff_drops_half_a_command() {
        let pieces = Framer::default().push(b"{\"a\": [\xff{\"b\":2}");
        assert!(matches!(&pieces[..], [Piece::Bad(_), Piece::Text(t)] if t == "{\"b\":2}"), "{pieces:?}");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let pieces = texts(&format!("{}\n{{}}", "[".repeat(100_000)));
        assert_eq!(pieces, [Piece::Bad("nesting depth limit exceeded".to_owned()), text("{}")]);
        let pieces = texts(&format!("{}\n{{}}", "1".repeat(MAX_BYTES + 1)));
        assert_eq!(pieces, [Piece::Bad("token size limit exceeded".to_owned()), text("{}")]);
    }
}
