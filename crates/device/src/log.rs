//! Where a machine's log lines go: the categories of `-d` and the file of `-D`.
//!
//! This is the log of the *guest's* doings (bad accesses, devices that are not modelled), not of the program's own
//! errors, which are returned. A line that nobody asked for is never formatted: callers pass
//! [`fmt::Arguments`] and [`Log::line`] looks at the mask first.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::BitOr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

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

impl LogMask {
    /// Nothing is logged.
    pub const NONE: LogMask = LogMask(0);
    /// What a guest did wrong: accesses that hit nothing or that a region refuses.
    pub const GUEST_ERRORS: LogMask = LogMask(1);
    /// Accesses to what is not modelled.
    pub const UNIMP: LogMask = LogMask(2);

    const ITEMS: &'static [(&'static str, &'static str, LogMask)] = &[
        ("guest_errors", "log when the guest does something invalid", LogMask::GUEST_ERRORS),
        ("unimp", "log accesses to devices and functions that are not modelled", LogMask::UNIMP),
    ];

    /// The items of `-d` with one line of help each, for `-d help`.
    pub fn items() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::ITEMS.iter().map(|(name, help, _)| (*name, *help))
    }

    /// Reads a comma-separated list as `-d` takes it; `all` is every item.
    ///
    /// # Errors
    /// [`LogError::UnknownItem`] names the first item that is none.
    pub fn parse(text: &str) -> Result<LogMask, LogError> {
        let mut mask = LogMask::NONE;
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == "all" {
                mask = Self::ITEMS.iter().fold(mask, |mask, entry| mask | entry.2);
                continue;
            }
            match Self::ITEMS.iter().find(|entry| entry.0 == item) {
                Some(entry) => mask = mask | entry.2,
                None => {
                    let known = Self::ITEMS.iter().map(|entry| entry.0).collect::<Vec<_>>().join(", ");
                    return Err(LogError::UnknownItem { item: item.to_owned(), known });
                }
            }
        }
        Ok(mask)
    }

    /// Whether every category of `other` is in this set.
    pub fn contains(self, other: LogMask) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for LogMask {
    type Output = LogMask;
    fn bitor(self, other: LogMask) -> LogMask {
        LogMask(self.0 | other.0)
    }
}

/// A sink of log lines with the categories it takes. Cloning shares the sink.
#[derive(Clone, Default)]
pub struct Log {
    mask: LogMask,
    sink: Option<Arc<Mutex<Box<dyn Write + Send>>>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("mask", &self.mask).finish_non_exhaustive()
    }
}

impl Log {
    /// A log that drops everything.
    pub fn none() -> Log {
        Log::default()
    }

    /// Lines of `mask` go to standard error (`-d` without `-D`).
    pub fn stderr(mask: LogMask) -> Log {
        Log::to(mask, io::stderr())
    }

    /// Lines of `mask` go to the file, which is created or truncated (`-D FILE`).
    ///
    /// # Errors
    /// What opening the file gives.
    pub fn file(mask: LogMask, path: &Path) -> io::Result<Log> {
        Ok(Log::to(mask, File::create(path)?))
    }

    /// Lines of `mask` go to any writer; each line is written at once.
    pub fn to(mask: LogMask, writer: impl Write + Send + 'static) -> Log {
        Log { mask, sink: Some(Arc::new(Mutex::new(Box::new(writer)))) }
    }

    /// Whether lines of this category are wanted.
    pub fn enabled(&self, mask: LogMask) -> bool {
        self.sink.is_some() && mask != LogMask::NONE && self.mask.contains(mask)
    }

    /// Writes one line (the newline is added) if its category is wanted. A sink that fails is ignored: the guest must
    /// not stop because a disk is full.
    pub fn line(&self, mask: LogMask, args: fmt::Arguments<'_>) {
        if !self.enabled(mask) {
            return;
        }
        if let Some(sink) = &self.sink {
            let text = format!("{args}\n");
            let mut sink = sink.lock();
            let _ = sink.write_all(text.as_bytes());
            let _ = sink.flush();
        }
    }
}

/// A writer that collects lines in memory, for tests and tools that look at the log afterwards.
#[derive(Debug, Clone, Default)]
pub struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    /// What has been written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_lists_and_names_what_it_does_not_know() {
        assert_eq!(LogMask::parse("guest_errors,unimp"), Ok(LogMask::GUEST_ERRORS | LogMask::UNIMP));
        assert_eq!(LogMask::parse("all"), Ok(LogMask::GUEST_ERRORS | LogMask::UNIMP));
        let error = LogMask::parse("guest_error").unwrap_err().to_string();
        assert!(error.contains("'guest_error'") && error.contains("guest_errors, unimp"), "{error}");
    }

    #[test]
    fn only_wanted_categories_are_written() {
        let buffer = LogBuffer::default();
        let log = Log::to(LogMask::UNIMP, buffer.clone());
        log.line(LogMask::GUEST_ERRORS, format_args!("no"));
        log.line(LogMask::UNIMP, format_args!("x{}", 1));
        assert_eq!(buffer.text(), "x1\n");
        assert!(!Log::none().enabled(LogMask::UNIMP));
    }
}
