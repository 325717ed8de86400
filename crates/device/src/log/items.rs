//! What is logged: the items of `-d`.

use std::ops::BitOr;

/// A set of log categories, as `-d` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogMask(u32);

/// A bad `-d` argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// An item that no category is called.
    #[error("Unknown log item '{item}' in -d; the items are {known}")]
    UnknownItem {
        /// The item as given.
        item: String,
        /// All the items there are, comma-separated.
        known: String,
    },
}

/// What a list of `-d` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogItems {
    /// The categories.
    pub mask: LogMask,
    /// The patterns of trace events that are turned on (`trace:PATTERN`), in order.
    pub traces: Vec<String>,
}

/// What turns on trace events.
const TRACE: &str = "trace:";

impl LogMask {
    /// Nothing is logged.
    pub const NONE: LogMask = LogMask(0);
    /// What a guest did wrong: accesses that hit nothing or that a region refuses.
    pub const GUEST_ERRORS: LogMask = LogMask(1);
    /// Accesses to what is not modelled.
    pub const UNIMP: LogMask = LogMask(2);
    /// The guest's instructions, when they are translated.
    pub const IN_ASM: LogMask = LogMask(4);
    /// Exceptions and interrupts that are taken.
    pub const INT: LogMask = LogMask(8);
    /// Each block of guest code before it runs.
    pub const EXEC: LogMask = LogMask(16);
    /// The CPU's registers, there too.
    pub const CPU: LogMask = LogMask(32);
    /// What the MMU says, and changes of its registers.
    pub const MMU: LogMask = LogMask(64);
    /// Both that are told of each block.
    pub const BLOCKS: LogMask = LogMask(16 | 32);
    /// The CPU's registers before it is reset.
    pub const CPU_RESET: LogMask = LogMask(128);

    const ITEMS: &'static [(&'static str, &'static str, LogMask)] = &[
        ("in_asm", "the guest's instructions, when they are translated", LogMask::IN_ASM),
        ("int", "exceptions and interrupts", LogMask::INT),
        ("exec", "each block of guest code before it runs (many lines)", LogMask::EXEC),
        ("cpu", "the CPU's registers before each block (very many lines)", LogMask::CPU),
        ("mmu", "what the MMU says, and changes of its registers", LogMask::MMU),
        ("cpu_reset", "the CPU's registers before a reset", LogMask::CPU_RESET),
        ("unimp", "accesses to devices and functions that are not modelled", LogMask::UNIMP),
        ("guest_errors", "what the guest does that is invalid", LogMask::GUEST_ERRORS),
        // The traces of `exec` and `cpu` are always complete.
        ("nochain", "accepted: exec and cpu tell of every block anyhow", LogMask::NONE),
    ];

    /// The items of `-d` with one line of help each, for `-d help`.
    pub fn items() -> impl Iterator<Item = (&'static str, &'static str)> {
        let others = [("trace:PATTERN", "turn trace events on ('-d trace:help' for a list)")];
        Self::ITEMS.iter().map(|(name, help, _)| (*name, *help)).chain(others)
    }

    /// The text of `-d help`; of the monitor's `log help` with `none`, which is an item there.
    pub fn help(with_none: bool) -> String {
        let none = with_none.then_some(("none", "nothing"));
        let mut text = String::from("Log items (comma separated):\n");
        for (name, help) in none.into_iter().chain(Self::items()) {
            text.push_str(&format!("{name:15} {help}\n"));
        }
        text
    }

    /// Reads a comma-separated list as `-d` takes it; `all` is every item. Trace events are read, and left out.
    ///
    /// # Errors
    /// As [`LogItems::parse`].
    pub fn parse(text: &str) -> Result<LogMask, LogError> {
        LogItems::parse(text).map(|items| items.mask)
    }

    /// Whether every category of `other` is in this set.
    #[inline]
    pub fn contains(self, other: LogMask) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any category of `other` is in this set.
    #[inline]
    pub fn has_any_of(self, other: LogMask) -> bool {
        self.0 & other.0 != 0
    }

    /// The set without the categories of `other`.
    #[must_use]
    pub fn without(self, other: LogMask) -> LogMask {
        LogMask(self.0 & !other.0)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn of_bits(bits: u32) -> LogMask {
        LogMask(bits)
    }
}

impl BitOr for LogMask {
    type Output = LogMask;
    fn bitor(self, other: LogMask) -> LogMask {
        LogMask(self.0 | other.0)
    }
}

impl LogItems {
    /// Reads a comma-separated list as `-d` takes it; `all` is every category.
    ///
    /// # Errors
    /// [`LogError::UnknownItem`] names the first item that is none.
    pub fn parse(text: &str) -> Result<LogItems, LogError> {
        let mut items = LogItems::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == "all" {
                items.mask = LogMask::ITEMS.iter().fold(items.mask, |mask, entry| mask | entry.2);
                continue;
            }
            if let Some(pattern) = item.strip_prefix(TRACE) {
                items.traces.push(pattern.to_owned());
                continue;
            }
            match LogMask::ITEMS.iter().find(|entry| entry.0 == item) {
                Some(entry) => items.mask = items.mask | entry.2,
                None => {
                    let known = LogMask::items().map(|entry| entry.0).collect::<Vec<_>>().join(", ");
                    return Err(LogError::UnknownItem { item: item.to_owned(), known });
                }
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_lists_and_names_what_it_does_not_know() {
        assert_eq!(LogMask::parse("guest_errors,unimp"), Ok(LogMask::GUEST_ERRORS | LogMask::UNIMP));
        let all = LogMask::parse("all").unwrap();
        let each = LogMask::ITEMS.iter().map(|entry| entry.2);
        assert_eq!(all, each.fold(LogMask::NONE, BitOr::bitor));
        let error = LogMask::parse("guest_error").unwrap_err().to_string();
        assert!(error.contains("'guest_error'") && error.contains("unimp, guest_errors"), "{error}");
    }

    #[test]
    fn trace_events_are_items_too() {
        let items = LogItems::parse("int,trace:memory_*,exec,trace:x").unwrap();
        assert_eq!(items.mask, LogMask::INT | LogMask::EXEC);
        assert_eq!(items.traces, ["memory_*", "x"]);
    }

    #[test]
    fn the_help_names_every_item() {
        let help = LogMask::help(true);
        for item in ["none", "in_asm", "int", "exec", "cpu", "mmu", "guest_errors", "trace:PATTERN"] {
            assert!(help.lines().any(|line| line.split(' ').next() == Some(item)), "{item}: {help}");
        }
        assert!(!LogMask::help(false).contains("\nnone "));
    }
}
