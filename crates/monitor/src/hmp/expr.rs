//! Integer expressions, as the monitor takes them for addresses, sizes and ports.
//!
//! It is QEMU's grammar, its surprises included: `&`, `|` and `^` bind tighter than `+` and `-`, numbers follow C
//! (`0x10`, `010`, `16`), `'a'` is a character's code, and arithmetic wraps at 64 bits. It is not a general calculator: there are
//! no comparisons and no symbols other than `$register`.
//!
//! An expression ends where no operator follows; what comes after it is the next parameter. That is why an unquoted file name
//! after a number (`pmemsave 0 16 /tmp/x`) reads as a division, here as in QEMU.

use thiserror::Error;

/// Why an expression could not be read. The texts are QEMU's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExprError {
    /// The text ended where a value was needed.
    #[error("unexpected end of expression")]
    End,
    /// Something that starts no value.
    #[error("invalid char '{0}' in expression")]
    InvalidChar(char),
    /// More than 64 bits.
    #[error("number too large")]
    TooLarge,
    /// `/` or `%` by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// An open parenthesis.
    #[error("')' expected")]
    ParenthesisExpected,
    /// `'` at the end of the text.
    #[error("character constant expected")]
    CharacterExpected,
    /// `'a` without its closing quote.
    #[error("missing terminating ' character")]
    Unterminated,
    /// `$name` that the machine's CPU does not have.
    #[error("unknown register")]
    UnknownRegister,
    /// Parentheses or signs nested deeper than [`MAX_DEPTH`].
    #[error("expression nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// How deep parentheses and unary operators may nest: a line from a socket must not exhaust the stack.
pub const MAX_DEPTH: u32 = 200;

/// Reads one expression at the start of `text` (white space before it is skipped).
///
/// Gives its value and the rest of the text, white space skipped. `register` gives the value of `$name`, or `None` when there is
/// no such register.
///
/// # Errors
/// [`ExprError`], with the text QEMU prints.
pub fn parse<'a>(text: &'a str, register: &dyn Fn(&str) -> Option<u64>) -> Result<(u64, &'a str), ExprError> {
    let mut p = Parser { rest: text.trim_start(), register, depth: 0 };
    let value = p.sum()?;
    Ok((value, p.rest))
}

struct Parser<'a, 'r> {
    rest: &'a str,
    register: &'r dyn Fn(&str) -> Option<u64>,
    depth: u32,
}

impl Parser<'_, '_> {
    /// Takes the next character if `wanted` holds for it, and the white space after it.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let c = self.rest.chars().next().filter(|&c| wanted(c))?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default().trim_start();
        Some(c)
    }

    fn sum(&mut self) -> Result<u64, ExprError> {
        let mut value = self.logic()?;
        while let Some(op) = self.take(|c| matches!(c, '+' | '-')) {
            let right = self.logic()?;
            value = if op == '+' { value.wrapping_add(right) } else { value.wrapping_sub(right) };
        }
        Ok(value)
    }

    fn logic(&mut self) -> Result<u64, ExprError> {
        let mut value = self.product()?;
        while let Some(op) = self.take(|c| matches!(c, '&' | '|' | '^')) {
            let right = self.product()?;
            value = match op {
                '&' => value & right,
                '|' => value | right,
                _ => value ^ right,
            };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<u64, ExprError> {
        let mut value = self.unary()?;
        while let Some(op) = self.take(|c| matches!(c, '*' | '/' | '%')) {
            let right = self.unary()?;
            value = match op {
                '*' => value.wrapping_mul(right),
                '/' => value.checked_div(right).ok_or(ExprError::DivisionByZero)?,
                _ => value.checked_rem(right).ok_or(ExprError::DivisionByZero)?,
            };
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result<u64, ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExprError::TooDeep);
        }
        let value = self.operand()?;
        self.depth -= 1;
        Ok(value)
    }

    fn operand(&mut self) -> Result<u64, ExprError> {
        if let Some(op) = self.take(|c| matches!(c, '+' | '-' | '~' | '(')) {
            return match op {
                '+' => self.unary(),
                '-' => Ok(self.unary()?.wrapping_neg()),
                '~' => Ok(!self.unary()?),
                _ => {
                    let value = self.sum()?;
                    self.take(|c| c == ')').map(|_| value).ok_or(ExprError::ParenthesisExpected)
                }
            };
        }
        match self.rest.chars().next() {
            None => Err(ExprError::End),
            Some('\'') => self.character(),
            Some('$') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                let end = self
                    .rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':')))
                    .unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest.trim_start();
                (self.register)(name).ok_or(ExprError::UnknownRegister)
            }
            Some(c) if c.is_ascii_digit() => {
                let (value, rest) = c_number(self.rest).ok_or(ExprError::TooLarge)?;
                self.rest = rest.trim_start();
                Ok(value)
            }
            Some(c) => Err(ExprError::InvalidChar(c)),
        }
    }

    fn character(&mut self) -> Result<u64, ExprError> {
        let mut chars = self.rest.chars();
        chars.next();
        let value = chars.next().ok_or(ExprError::CharacterExpected)?;
        if chars.next() != Some('\'') {
            return Err(ExprError::Unterminated);
        }
        self.rest = chars.as_str().trim_start();
        Ok(u64::from(u32::from(value)))
    }
}

/// Reads the C number (`0x` hexadecimal, leading `0` octal, else decimal) at the start of `text`, as far as its digits go.
///
/// Gives the value and what follows it, or `None` when it needs more than 64 bits. A text that starts with no digit gives 0
/// and the whole text; `0x` without a digit is `0` followed by `x`, and `08` is `0` followed by `8`, as C's `strtoull` has it.
pub fn c_number(text: &str) -> Option<(u64, &str)> {
    let hex = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .filter(|t| t.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (radix, digits) = match hex {
        Some(digits) => (16, digits),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.is_empty() {
        return Some((0, text));
    }
    u64::from_str_radix(number, radix).ok().map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<u64, ExprError> {
        parse(text, &|name| (name == "pc").then_some(0xfff0_0100)).map(|(v, _)| v)
    }

    #[test]
    fn logic_binds_tighter_than_sums_as_in_qemu() {
        assert_eq!(value("0xfff08000+(4*2)-8&0xffffffff|4^1"), Ok(0xfff0_7ffb));
        assert_eq!(value("0x10+0x20*2"), Ok(0x50));
    }

    #[test]
    fn numbers_follow_c() {
        assert_eq!(value("010"), Ok(8));
        assert_eq!(value("0X1f"), Ok(31));
        assert_eq!(parse("0x", &|_| None), Ok((0, "x")));
        assert_eq!(parse("08", &|_| None), Ok((0, "8")));
        assert_eq!(value("0xffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(value("0x1ffffffffffffffff"), Err(ExprError::TooLarge));
        assert_eq!(value("99999999999999999999999"), Err(ExprError::TooLarge));
    }

    #[test]
    fn unary_operators_wrap() {
        assert_eq!(value("-1"), Ok(u64::MAX));
        assert_eq!(value("~0"), Ok(u64::MAX));
        assert_eq!(value("- - 3"), Ok(3));
        assert_eq!(value("'a'"), Ok(0x61));
        assert_eq!(value("$pc + 4"), Ok(0xfff0_0104));
    }

    #[test]
    fn an_expression_ends_where_no_operator_follows() {
        assert_eq!(parse(" 1 + 2 \"file\"", &|_| None), Ok((3, "\"file\"")));
        assert_eq!(parse("0 0", &|_| None), Ok((0, "0")));
    }

    #[test]
    fn errors_have_the_texts_of_qemu() {
        for (text, expected) in [
            ("", "unexpected end of expression"),
            ("1+", "unexpected end of expression"),
            ("abc", "invalid char 'a' in expression"),
            ("(1+2", "')' expected"),
            ("1/0", "division by zero"),
            ("1%0", "division by zero"),
            ("$foo", "unknown register"),
            ("'a", "missing terminating ' character"),
            ("'", "character constant expected"),
        ] {
            assert_eq!(value(text).map_err(|e| e.to_string()), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_recursed() {
        assert_eq!(value(&"(".repeat(100_000)), Err(ExprError::TooDeep));
        assert_eq!(value(&"-".repeat(100_000)), Err(ExprError::TooDeep));
        let deep = format!("{}1{}", "(".repeat(150), ")".repeat(150));
        assert_eq!(value(&deep), Ok(1));
        let long = vec!["1"; 5_000].join("+");
        assert_eq!(value(&long), Ok(5_000), "length is not depth");
    }
}
