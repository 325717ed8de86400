//! Of which addresses guest code is logged: `-dfilter`.

use std::ops::RangeInclusive;

/// Ranges of virtual addresses. An empty list lets every address through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressFilter(Vec<RangeInclusive<u64>>);

/// A bad `-dfilter`, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No operator.
    #[error("Bad range specifier; FIRST..LAST, START+SIZE and END-SIZE are ranges")]
    NoRange,
    /// No number before the operator.
    #[error("Invalid number to the left of {0}")]
    Left(&'static str),
    /// No number behind it.
    #[error("Invalid number to the right of {0}")]
    Right(&'static str),
    /// The last address is below the first.
    #[error("Invalid range: the end is before the start")]
    Empty,
}

/// A number as C reads it: 0x for 16, a leading 0 for 8.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign.
    let plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

impl AddressFilter {
    /// Reads `RANGE[,RANGE…]`, where a range is `FIRST..LAST`, `START+SIZE` or `END-SIZE` (which ends at `END`).
    ///
    /// # Errors
    /// [`FilterError`] of the first range that is none.
    pub fn parse(text: &str) -> Result<AddressFilter, FilterError> {
        text.split(',').map(range).collect::<Result<_, _>>().map(AddressFilter)
    }

    /// Whether code at an address is logged.
    pub fn has(&self, address: u64) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&address))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u64>, FilterError> {
    let operators = ["-", "+", ".."].into_iter();
    let Some((operator, at)) = operators.filter_map(|o| Some((o, text.find(o)?))).next() else {
        return Err(FilterError::NoRange);
    };
    let (left, right) = (text.get(..at), text.get(at + operator.len()..));
    let left = left.and_then(number).ok_or(FilterError::Left(operator))?;
    let right = right.and_then(number).ok_or(FilterError::Right(operator))?;
    let size_less_one = || right.checked_sub(1).ok_or(FilterError::Empty);
    let (first, last) = match operator {
        "+" => (left, left.saturating_add(size_less_one()?)),
        "-" => (left.saturating_sub(size_less_one()?), left),
        _ => (left, right),
    };
    if first > last { Err(FilterError::Empty) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_three_ways() {
        let filter = AddressFilter::parse("0x1000..0x10ff,0x2000+0x10,0x3000-16,4096..4096").unwrap();
        for (address, inside) in [
            (0xfff, false),
            (0x1000, true),
            (0x10ff, true),
            (0x1100, false),
            (0x200f, true),
            (0x2010, false),
            (0x2ff0, false),
            (0x2ff1, true),
            (0x3000, true),
            (0x3001, false),
        ] {
            assert_eq!(filter.has(address), inside, "{address:#x}");
        }
        assert!(AddressFilter::default().has(0));
        assert!(AddressFilter::parse("0xfffffffffffffff0+0x100").unwrap().has(u64::MAX));
    }

    #[test]
    fn what_is_no_range_is_told_so() {
        for (text, error) in [
            ("abc", FilterError::NoRange),
            ("", FilterError::NoRange),
            ("x..2", FilterError::Left("..")),
            ("1..2..3", FilterError::Right("..")),
            ("0x10+", FilterError::Right("+")),
            ("0x10+-1", FilterError::Left("-")),
            ("0x10..0x5", FilterError::Empty),
            ("0x10+0", FilterError::Empty),
        ] {
            assert_eq!(AddressFilter::parse(text), Err(error), "{text}");
        }
    }
}
