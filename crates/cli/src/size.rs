//! Sizes as QEMU's `-m` takes them.

use flatview_board::parse_size;

/// What to say about a size that is none: QEMU's words, and what would be right.
const EXPECTED: &str = "expects a non-negative number below 2^64; \
    suffixes k, M, G, T, P and E are powers of 1024, and without one the number is in MiB";

/// Reads the size of a parameter; without a suffix the number is in MiB.
///
/// # Errors
/// The text to print after the option: what would be right.
pub fn parse(parameter: &str, text: &str) -> Result<u64, String> {
    parse_size(text, 20).ok_or_else(|| format!("Parameter '{parameter}' {EXPECTED}"))
}
