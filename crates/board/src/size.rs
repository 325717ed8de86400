//! Sizes as QEMU's options take them.

/// Reads `128`, `64M`, `1.5G`, `0x8000k`; without a suffix the number is shifted left by `shift` bits (20: MiB). A fraction
/// of a byte is cut off. `None` for what is no size below 2^64.
pub fn parse_size(text: &str, shift: u32) -> Option<u64> {
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, suffix)) if suffix.is_ascii_alphabetic() && !is_hex(text) => {
            (text.get(..at).unwrap_or_default(), shift_of(suffix)?)
        }
        // In a hexadecimal number, `B` and `E` are digits; the other suffixes are not.
        Some((at, suffix)) if is_hex(text) && !suffix.is_ascii_hexdigit() => {
            (text.get(..at).unwrap_or_default(), shift_of(suffix)?)
        }
        _ => (text, shift),
    };
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let value: u128 = match whole.strip_prefix("0x").or_else(|| whole.strip_prefix("0X")) {
        Some(digits) if fraction.is_none() => u64::from_str_radix(digits, 16).ok()?.into(),
        Some(_) => return None,
        None if whole.starts_with(|c: char| c.is_ascii_digit()) => whole.parse::<u64>().ok()?.into(),
        None => return None,
    };
    let mut bytes = value << shift;
    if let Some(digits) = fraction {
        if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part: u128 = digits.parse::<u64>().ok()?.into();
        bytes += (part << shift) / 10_u128.pow(digits.len() as u32);
    }
    u64::try_from(bytes).ok()
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
            assert_eq!(parse_size(text, 20), Some(bytes), "{text}");
        }
        assert_eq!(parse_size("5000", 0), Some(5000));
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
            assert_eq!(parse_size(text, 20), None, "{text}");
        }
    }
}
