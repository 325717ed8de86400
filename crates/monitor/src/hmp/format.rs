//! The `/NFS` of `x`, `xp`, `print`, `i` and `o`, and the lines that they print.
//!
//! `N` is a count, `F` one of `o x u d c i`, `S` one of `b h w g`. What a command leaves out is what the command before it had
//! ([`Defaults`]). The columns, the paddings and their oddities (`d` shows values under eight bytes unsigned) are QEMU 7.2's.
//!
//! Format `i` is the CPU's disassembler's; where there is no CPU, each word is shown as the bytes it is, the way QEMU shows a
//! word that it cannot decode.

use flatview::Endianness;
use flatview_board::cpu::Disassembler;
use std::fmt::Write as _;
use std::io::{self, Write};
use thiserror::Error;

/// How a value is printed: the `F` of `/NFS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Radix {
    /// `o`: with a leading 0.
    Octal,
    /// `x`: with `0x`, all digits.
    Hex,
    /// `u`
    Unsigned,
    /// `d`
    Decimal,
    /// `c`: one character of the value's lowest byte, escaped where it cannot be shown.
    Char,
    /// `i`: instructions.
    Instruction,
}

/// A parsed `/NFS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How many values.
    pub count: u64,
    /// How to print each.
    pub radix: Radix,
    /// Bytes of each: 1, 2, 4 or 8.
    pub size: u32,
}

/// What `/NFS` leaves out, remembered from the command before, as QEMU and gdb do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    radix: Radix,
    size: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { radix: Radix::Hex, size: 4 }
    }
}

/// A letter that `/NFS` does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid char in format: '{0}'")]
pub struct FormatError(char);

/// Reads an optional `/NFS` at the start of `text`; gives it and the rest of the text.
///
/// # Errors
/// [`FormatError`] names the letter that is none.
pub fn parse<'a>(text: &'a str, defaults: &mut Defaults) -> Result<(Format, &'a str), FormatError> {
    let text = text.trim_start();
    let Some(mut rest) = text.strip_prefix('/') else {
        return Ok((Format { count: 1, radix: defaults.radix, size: defaults.size }, text));
    };
    let mut count = 1;
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        count = 0;
        while let Some(digit) = rest.chars().next().and_then(|c| c.to_digit(10)) {
            count = u64::saturating_add(u64::saturating_mul(count, 10), u64::from(digit));
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    let (mut radix, mut size) = (None, None);
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (letters, rest) = rest.split_at(end);
    for letter in letters.chars() {
        match letter {
            'o' => radix = Some(Radix::Octal),
            'x' => radix = Some(Radix::Hex),
            'u' => radix = Some(Radix::Unsigned),
            'd' => radix = Some(Radix::Decimal),
            'c' => radix = Some(Radix::Char),
            'i' => radix = Some(Radix::Instruction),
            'b' => size = Some(1),
            'h' => size = Some(2),
            'w' => size = Some(4),
            'g' | 'L' => size = Some(8),
            other => return Err(FormatError(other)),
        }
    }
    let radix = radix.unwrap_or(defaults.radix);
    let size = size.unwrap_or(defaults.size);
    if radix != Radix::Instruction {
        defaults.size = size;
    }
    defaults.radix = radix;
    Ok((Format { count, radix, size }, rest.trim_start()))
}

/// Fills a buffer with what is at an address, without side effects, or says why it cannot.
pub type Peek<'a> = dyn Fn(u64, &mut [u8]) -> Result<(), String> + 'a;

/// Prints `count` values from `addr` on, as `x` and `xp` do.
///
/// Not for instructions: [`disassemble`]. Where `peek` refuses, the line ends with `Cannot access memory` and its reason, and so does the dump. A line is read whole before any of it is printed, so that it never shows half of a
/// value. `digits` is the width of the address column: 16 for physical addresses, 8 for a 32-bit CPU's.
///
/// # Errors
/// Those of `out`.
pub fn dump(
    out: &mut dyn Write,
    format: Format,
    addr: u64,
    digits: usize,
    order: Endianness,
    peek: &Peek<'_>,
) -> io::Result<()> {
    let line_bytes = if format.size == 1 { 8 } else { 16 };
    // Characters are bytes: a size makes more of them.
    let (size, count) = match format.radix {
        Radix::Char => (1, format.count.saturating_mul(u64::from(format.size))),
        _ => (format.size as usize, format.count),
    };
    let per_line = line_bytes / size;
    let mask = if digits >= 16 { u64::MAX } else { (1 << (digits * 4)) - 1 };
    let mut left = count;
    let mut addr = addr & mask;
    let mut buf = [0; 16];
    let mut line = String::new();
    while left > 0 {
        let values = per_line.min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = buf.get_mut(..values * size).unwrap_or_default();
        line.clear();
        let _ = write!(line, "{addr:0digits$x}:");
        let end = addr.checked_add(bytes.len() as u64 - 1).filter(|&end| end <= mask);
        let read = match end {
            Some(_) => peek(addr, bytes),
            None => Err("the line runs past the last address".to_owned()),
        };
        if let Err(reason) = read {
            return writeln!(out, "{line} Cannot access memory: {reason}");
        }
        for value in bytes.chunks(size) {
            line.push(' ');
            value_text(&mut line, format.radix, format.size, integer(value, order));
        }
        writeln!(out, "{line}")?;
        left -= values as u64;
        addr = addr.wrapping_add(bytes.len() as u64) & mask;
    }
    Ok(())
}

/// Prints `count` instructions from `addr` on, as `x /i` and `xp /i` do; without a disassembler as bytes.
///
/// Where `peek` refuses, the line says `unable to read memory` and its reason, and is the last one.
///
/// # Errors
/// Those of `out`.
pub fn disassemble(
    out: &mut dyn Write,
    count: u64,
    addr: u64,
    digits: usize,
    disassembler: Option<Disassembler>,
    peek: &Peek<'_>,
) -> io::Result<()> {
    let mask = if digits >= 16 { u64::MAX } else { (1 << (digits * 4)) - 1 };
    let mut addr = addr & mask;
    for _ in 0..count {
        let mut bytes = [0; 4];
        let end = addr.checked_add(3).filter(|&end| end <= mask);
        let read = match end {
            Some(_) => peek(addr, &mut bytes),
            None => Err("the instruction runs past the last address".to_owned()),
        };
        if let Err(reason) = read {
            return writeln!(out, "0x{addr:08x}: unable to read memory: {reason}");
        }
        let line = disassembler.map_or_else(|| data(addr, bytes), |d| d.line(addr, bytes));
        writeln!(out, "{line}")?;
        addr = addr.wrapping_add(4) & mask;
    }
    Ok(())
}

fn data(addr: u64, [a, b, c, d]: [u8; 4]) -> String {
    format!(
        "0x{addr:08x}:  {a:02x}{b:02x}{c:02x}{d:02x}  .byte    0x{a:02x}, 0x{b:02x}, 0x{c:02x}, 0x{d:02x}"
    )
}

/// The bytes of a value, in the order of `order`, as an integer.
pub(crate) fn integer(bytes: &[u8], order: Endianness) -> u64 {
    let shift_in = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    match order {
        Endianness::Big => bytes.iter().fold(0, shift_in),
        Endianness::Little => bytes.iter().rev().fold(0, shift_in),
    }
}

fn value_text(line: &mut String, radix: Radix, size: u32, value: u64) {
    let bits = (size * 8) as usize;
    let decimal_width = (bits * 10).div_ceil(33);
    let _ = match radix {
        Radix::Octal => write!(line, "{:>width$}", octal(value), width = bits.div_ceil(3)),
        Radix::Hex => write!(line, "0x{value:0width$x}", width = bits / 4),
        Radix::Unsigned => write!(line, "{value:decimal_width$}"),
        Radix::Decimal => write!(line, "{:decimal_width$}", value.cast_signed()),
        Radix::Char | Radix::Instruction => write!(line, "{}", character(value)),
    };
}

/// C's `%#o`: a leading 0, and 0 itself without a second one.
fn octal(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("0{value:o}") }
}

/// The lowest byte as a quoted character.
fn character(value: u64) -> String {
    match value as u8 {
        b'\'' => "'\\''".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        c @ 0x20..=0x7e => format!("'{}'", char::from(c)),
        c => format!("'\\x{c:02x}'"),
    }
}

/// One value as `print` shows it: no padding.
pub fn print_value(radix: Radix, value: u64) -> String {
    match radix {
        Radix::Octal => octal(value),
        Radix::Hex => format!("{value:#x}"),
        Radix::Unsigned => value.to_string(),
        Radix::Decimal | Radix::Instruction => value.cast_signed().to_string(),
        Radix::Char => character(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_board::cpu::ppc::PpcModel;

    /// What stands at fff08000 in Debian's openbios-ppc 7.2: the expected lines below were printed by QEMU 7.2.22.
    const BYTES: [u8; 32] = [
        0x90, 0x21, 0xff, 0x78, 0x94, 0x21, 0xff, 0x70, 0x90, 0x81, 0x00, 0x2c, 0x90, 0xa1, 0x00, 0x30, 0x7c,
        0x88, 0x02, 0xa6, 0x90, 0x81, 0x00, 0x04, 0x90, 0x81, 0x00, 0x0c, 0x90, 0x61, 0x00, 0x1c,
    ];
    const BASE: u64 = 0xfff0_8000;

    fn peek(addr: u64, buf: &mut [u8]) -> Result<(), String> {
        let start =
            addr.checked_sub(BASE).and_then(|o| usize::try_from(o).ok()).ok_or("nothing is mapped there")?;
        let from = BYTES.get(start..start + buf.len()).ok_or("nothing is mapped there")?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn shown(format: &str, addr: u64) -> String {
        let (format, rest) = parse(format, &mut Defaults::default()).unwrap();
        assert_eq!(rest, "");
        let mut out = Vec::new();
        dump(&mut out, format, addr, 16, Endianness::Big, &peek).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_those_of_qemu() {
        for (format, line) in [
            ("/4xw", "0x9021ff78 0x9421ff70 0x9081002c 0x90a10030"),
            ("/8xb", "0x90 0x21 0xff 0x78 0x94 0x21 0xff 0x70"),
            ("/4xh", "0x9021 0xff78 0x9421 0xff70"),
            ("/5uh", "36897 65400 37921 65392 36993"),
            ("/4dw", "2418147192 2485256048 2424373292 2426470448"),
            ("/4ow", "022010377570 022410377560 022040200054 022050200060"),
            ("/2dg", "-8060880964670062736 -8034140068847222736"),
            ("/2og", "01100417767422410377560 01102010002622050200060"),
            ("/4db", "144  33 255 120"),
            ("/4ob", "0220 041 0377 0170"),
            ("/2cw", "'\\x90' '!' '\\xff' 'x' '\\x94' '!' '\\xff' 'p'"),
            ("/8cb", "'\\x90' '!' '\\xff' 'x' '\\x94' '!' '\\xff' 'p'"),
        ] {
            assert_eq!(shown(format, BASE), format!("00000000fff08000: {line}\n"), "{format}");
        }
        assert_eq!(
            shown("/3ug", BASE),
            "00000000fff08000: 10385863109039488880 10412604004862328880\n00000000fff08010:  8973425171947913220\n"
        );
        assert_eq!(shown("/0x", BASE), "");
    }

    #[test]
    fn instructions_are_those_of_qemu_and_end_where_nothing_can_be_read() {
        let shown = |count, addr, disassembler| {
            let mut out = Vec::new();
            disassemble(&mut out, count, addr, 8, disassembler, &peek).unwrap();
            String::from_utf8(out).unwrap()
        };
        let ppc = Some(Disassembler::Ppc(PpcModel::ppc604()));
        assert_eq!(
            shown(5, BASE, ppc),
            "0xfff08000:  9021ff78  stw      r1, -0x88(r1)\n0xfff08004:  9421ff70  stwu     r1, -0x90(r1)\n\
             0xfff08008:  9081002c  stw      r4, 0x2c(r1)\n0xfff0800c:  90a10030  stw      r5, 0x30(r1)\n\
             0xfff08010:  7c8802a6  mflr     r4\n"
        );
        assert_eq!(
            shown(9, BASE + 28, ppc),
            "0xfff0801c:  9061001c  stw      r3, 0x1c(r1)\n\
             0xfff08020: unable to read memory: nothing is mapped there\n"
        );
        assert_eq!(shown(0, BASE, ppc), "");
        assert_eq!(shown(1, BASE, None), "0xfff08000:  9021ff78  .byte    0x90, 0x21, 0xff, 0x78\n");
        let end = shown(2, 0xffff_fffe, ppc);
        assert!(end.starts_with("0xfffffffe: unable to read memory: the instruction runs past"), "{end}");
    }

    #[test]
    fn zeros_are_padded_as_qemu_pads_them() {
        let mut text = String::new();
        for (radix, size) in [(Radix::Octal, 4), (Radix::Unsigned, 4), (Radix::Decimal, 2)] {
            value_text(&mut text, radix, size, 0);
            text.push('|');
        }
        assert_eq!(text, "          0|         0|    0|");
    }

    #[test]
    fn a_line_that_cannot_be_read_whole_ends_the_dump_with_the_reason() {
        assert_eq!(
            shown("/8xw", BASE + 16),
            "00000000fff08010: 0x7c8802a6 0x90810004 0x9081000c 0x9061001c\n\
             00000000fff08020: Cannot access memory: nothing is mapped there\n"
        );
        assert_eq!(
            shown("/4xw", u64::MAX - 3),
            "fffffffffffffffc: Cannot access memory: the line runs past the last address\n"
        );
    }

    #[test]
    fn what_is_left_out_is_what_the_last_command_had() {
        let mut defaults = Defaults::default();
        let mut read = |text| parse(text, &mut defaults).unwrap().0;
        assert_eq!(read("0"), Format { count: 1, radix: Radix::Hex, size: 4 });
        assert_eq!(read("/3ub"), Format { count: 3, radix: Radix::Unsigned, size: 1 });
        assert_eq!(read("/2"), Format { count: 2, radix: Radix::Unsigned, size: 1 });
        assert_eq!(read(""), Format { count: 1, radix: Radix::Unsigned, size: 1 });
        assert_eq!(read("/xbw").size, 4, "the last letter counts");
        assert_eq!(read("/i").radix, Radix::Instruction);
        assert_eq!(read("/x").size, 4);
    }

    #[test]
    fn a_letter_that_is_no_format_is_named() {
        let error = parse("/4zz 0", &mut Defaults::default()).unwrap_err();
        assert_eq!(error.to_string(), "invalid char in format: 'z'");
        assert!(parse("/-1x", &mut Defaults::default()).is_err());
    }

    #[test]
    fn a_count_beyond_64_bits_saturates() {
        let (format, _) = parse("/99999999999999999999999x", &mut Defaults::default()).unwrap();
        assert_eq!(format.count, u64::MAX);
    }
}
