//! Writes JSON the way QEMU spaces it, `{"return": {}}`: scripts search for such pieces as text.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io;

/// A space after each `:` and `,`, and no line breaks.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Writes `value` and QEMU's line end, `\r\n`.
///
/// # Errors
/// Those of `out`.
pub fn write_line(out: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut line, Spaced))?;
    line.extend_from_slice(b"\r\n");
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #[test]
    fn spacing_is_that_of_qemu() {
        let value = serde_json::json!({"a": [1, {"b": {}}], "c": "x:y,z"});
        let mut out = Vec::new();
        super::write_line(&mut out, &value).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\": [1, {\"b\": {}}], \"c\": \"x:y,z\"}\r\n");
    }
}
