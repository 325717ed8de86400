//! Reads a command's parameters from what follows its name, one after the other.
//!
//! The order of the checks and the texts of the errors are QEMU's: an expression, then a string in quotes, and nothing may be
//! left over at the end.

use super::expr::{self, ExprError};
use super::format::{self, Defaults, Format, FormatError};
use thiserror::Error;

/// What is wrong with a command's parameters. `command` is the name as the command table has it, aliases included.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgError {
    /// A number or address that could not be read.
    #[error(transparent)]
    Expression(#[from] ExprError),
    /// A `/NFS` that could not be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A 32-bit parameter that needs more.
    #[error("'{command}' has failed: integer is for 32-bit values")]
    TooWide {
        /// The command's name.
        command: &'static str,
    },
    /// A string that is missing, or that could not be read (`detail` says why, with a line break, or is empty).
    #[error("{detail}{command}: string expected")]
    StringExpected {
        /// The command's name.
        command: &'static str,
        /// A line of its own in front, or nothing.
        detail: String,
    },
    /// A file name that is missing, or that could not be read.
    #[error("{detail}{command}: filename expected")]
    FilenameExpected {
        /// The command's name.
        command: &'static str,
        /// A line of its own in front, or nothing.
        detail: String,
    },
    /// Neither `on` nor `off`.
    #[error("Expected 'on' or 'off'")]
    OnOffExpected,
    /// `-x` where the command has no such option.
    #[error("{command}: unsupported option -{option}")]
    UnsupportedOption {
        /// The command's name.
        command: &'static str,
        /// The letter after the dash, empty at the end of the line.
        option: String,
    },
    /// A drive's name that is missing.
    #[error("{command}: block device name expected")]
    DeviceExpected {
        /// The command's name.
        command: &'static str,
    },
    /// Something after the last parameter.
    #[error("{command}: extraneous characters at the end of line")]
    Extraneous {
        /// The command's name.
        command: &'static str,
    },
}

/// The parameters of one command line, not yet read.
#[derive(Debug)]
pub struct Args<'a> {
    command: &'static str,
    rest: &'a str,
}

impl<'a> Args<'a> {
    /// The parameters `rest` of `command`, whose name error messages use.
    pub fn new(command: &'static str, rest: &'a str) -> Self {
        Self { command, rest: rest.trim_start() }
    }

    /// An optional `/NFS`.
    ///
    /// # Errors
    /// A letter that is no format.
    pub fn format(&mut self, defaults: &mut Defaults) -> Result<Format, ArgError> {
        let (format, rest) = format::parse(self.rest, defaults)?;
        self.rest = rest;
        Ok(format)
    }

    /// A 64-bit expression.
    ///
    /// # Errors
    /// Anything that is no expression.
    pub fn long(&mut self, register: &dyn Fn(&str) -> Option<u64>) -> Result<u64, ArgError> {
        let (value, rest) = expr::parse(self.rest, register)?;
        self.rest = rest;
        Ok(value)
    }

    /// A 64-bit expression, or nothing.
    ///
    /// # Errors
    /// Anything that is no expression.
    pub fn optional_long(&mut self, register: &dyn Fn(&str) -> Option<u64>) -> Result<Option<u64>, ArgError> {
        if self.rest.is_empty() { Ok(None) } else { self.long(register).map(Some) }
    }

    /// An expression whose value must fit 32 bits.
    ///
    /// # Errors
    /// Anything that is no expression, or too wide.
    pub fn int(&mut self, register: &dyn Fn(&str) -> Option<u64>) -> Result<u32, ArgError> {
        let value = self.long(register)?;
        u32::try_from(value).map_err(|_| ArgError::TooWide { command: self.command })
    }

    /// A word, or a text in double quotes with `\n \r \\ \' \"` escapes.
    ///
    /// # Errors
    /// Nothing there, a missing quote, an escape that is none.
    pub fn string(&mut self) -> Result<String, ArgError> {
        let command = self.command;
        let expected = |detail: String| ArgError::StringExpected { command, detail };
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.optional_word().ok_or_else(|| expected(String::new()));
        };
        let mut text = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                    Some(c) => return Err(expected(format!("unsupported escape code: '\\{c}'\n"))),
                    None => return Err(expected("unterminated string\n".to_owned())),
                },
                Some(c) => text.push(c),
                None => return Err(expected("unterminated string\n".to_owned())),
            }
        }
        self.rest = chars.as_str().trim_start();
        Ok(text)
    }

    /// The next word, if there is one.
    pub fn optional_word(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Some(word.to_owned())
    }

    /// The name of a drive.
    ///
    /// # Errors
    /// Nothing there.
    pub fn device(&mut self) -> Result<String, ArgError> {
        self.string().map_err(|_| ArgError::DeviceExpected { command: self.command })
    }

    /// The name of a file: as [`string`](Self::string), with an error of its own.
    ///
    /// # Errors
    /// Nothing there, a missing quote, an escape that is none.
    pub fn file(&mut self) -> Result<String, ArgError> {
        self.string().map_err(|error| match error {
            ArgError::StringExpected { command, detail } => ArgError::FilenameExpected { command, detail },
            other => other,
        })
    }

    /// Options of one letter each, `-f -d`, in any order (QEMU wants them in the order of the help text).
    ///
    /// Gives the letters found, each of which is in `known`.
    ///
    /// # Errors
    /// A letter that is not in `known`; two letters behind one dash are extraneous characters, as in QEMU.
    pub fn options(&mut self, known: &str) -> Result<String, ArgError> {
        let mut found = String::new();
        while let Some(option) = self.rest.strip_prefix('-') {
            let letter = option.chars().next().filter(|&c| known.contains(c));
            let Some(letter) = letter else {
                let option = option.chars().take(1).collect();
                return Err(ArgError::UnsupportedOption { command: self.command, option });
            };
            let rest = option.get(letter.len_utf8()..).unwrap_or_default();
            if rest.starts_with(|c: char| !c.is_whitespace()) {
                return Err(ArgError::Extraneous { command: self.command });
            }
            self.rest = rest.trim_start();
            found.push(letter);
        }
        Ok(found)
    }

    /// Everything that is left, as it stands.
    pub fn remainder(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&self) -> Result<(), ArgError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ArgError::Extraneous { command: self.command }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<u64> {
        None
    }

    #[test]
    fn parameters_are_read_in_turn() {
        let mut args = Args::new("pmemsave", " /2xb 0x10+1 16 \"/tmp/a \\\"b\\\"\" ");
        assert_eq!(args.format(&mut Defaults::default()).unwrap().count, 2);
        assert_eq!(args.long(&none), Ok(0x11));
        assert_eq!(args.int(&none), Ok(16));
        assert_eq!(args.string().unwrap(), "/tmp/a \"b\"");
        args.end().unwrap();
    }

    #[test]
    fn errors_are_those_of_qemu() {
        let int = Args::new("pmemsave", "0x100000000").int(&none).unwrap_err();
        assert_eq!(int.to_string(), "'pmemsave' has failed: integer is for 32-bit values");
        let escape = Args::new("pmemsave", "\"/tmp/\\qh\"").string().unwrap_err();
        assert_eq!(escape.to_string(), "unsupported escape code: '\\q'\npmemsave: string expected");
        let open = Args::new("pmemsave", "\"/tmp/").string().unwrap_err();
        assert_eq!(open.to_string(), "unterminated string\npmemsave: string expected");
        let missing = Args::new("pmemsave", "").string().unwrap_err();
        assert_eq!(missing.to_string(), "pmemsave: string expected");
        let more = Args::new("stop|s", "foo").end().unwrap_err();
        assert_eq!(more.to_string(), "stop|s: extraneous characters at the end of line");
    }

    #[test]
    fn options_come_in_any_order_but_one_behind_each_dash() {
        let mut args = Args::new("mtree", "-D -f  -o");
        assert_eq!(args.options("fdoD").unwrap(), "Dfo");
        args.end().unwrap();
        let unknown = Args::new("mtree", "-x").options("fdoD").unwrap_err();
        assert_eq!(unknown.to_string(), "mtree: unsupported option -x");
        let bare = Args::new("mtree", "-").options("fdoD").unwrap_err();
        assert_eq!(bare.to_string(), "mtree: unsupported option -");
        let joined = Args::new("mtree", "-fd").options("fdoD").unwrap_err();
        assert_eq!(joined.to_string(), "mtree: extraneous characters at the end of line");
    }
}
