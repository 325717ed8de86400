//! Sizes as QEMU's `-m` takes them.

/// What to say about a size that is none: QEMU's words, and what would be right.
const EXPECTED: &str = "Parameter 'size' expects a non-negative number below 2^64; \
    suffixes k, M, G, T, P and E are powers of 1024, and without one the number is in MiB";

/// Reads `128`, `64M`, `1.5G`, `0x8000k`; without a suffix the number is in MiB. A fraction of a byte is cut off.
///
/// # Errors
/// The text to print after the option: what would be right.
pub fn parse(text: &str) -> Result<u64, String> {
    let error = || EXPECTED.to_owned();
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, suffix)) if suffix.is_ascii_alphabetic() && !is_hex(text) => {
            (text.get(..at).unwrap_or_default(), shift_of(suffix).ok_or_else(error)?)
        }
        // In a hexadecimal number, `B` and `E` are digits; the other suffixes are not.
        Some((at, suffix)) if is_hex(text) && !suffix.is_ascii_hexdigit() => {
            (text.get(..at).unwrap_or_default(), shift_of(suffix).ok_or_else(error)?)
        }
        _ => (text, 20),
    };
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let value: u128 = match whole.strip_prefix("0x").or_else(|| whole.strip_prefix("0X")) {
        Some(digits) if fraction.is_none() => u64::from_str_radix(digits, 16).map_err(|_| error())?.into(),
        Some(_) => return Err(error()),
        None if whole.starts_with(|c: char| c.is_ascii_digit()) => {
            whole.parse::<u64>().map_err(|_| error())?.into()
        }
        None => return Err(error()),
    };
    let mut bytes = value << shift;
    if let Some(digits) = fraction {
        if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let part: u128 = digits.parse::<u64>().map_err(|_| error())?.into();
        bytes += (part << shift) / 10_u128.pow(digits.len() as u32);
    }
    u64::try_from(bytes).map_err(|_| error())
}

fn is_hex(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

fn shift_of(suffix: char) -> Option<u32> {
    Some(match suffix.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        'P' => 50,
        'E' => 60,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        for (text, bytes) in [
            ("128", 128 << 20),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("4096k", 4 << 20),
            ("4096b", 4096),
            ("0x80", 128 << 20),
            ("0x10M", 16 << 20),
            ("0", 0),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "abc",
            "128X",
            "M",
            "-1",
            "+1",
            "1.G",
            "1.x",
            "16E",
            "99999999999999999999",
            "0x",
            "0x1.5",
            "1 M",
            "é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
