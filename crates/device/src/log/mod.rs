//! Where a machine's log lines go: the items of `-d`, trace events, and the file of `-D`.
//!
//! This is the log of the *guest's* doings (bad accesses, code, accesses to devices), not of the program's own errors, which
//! are returned. What is logged and where can change while the machine runs; whoever must do more than ask is told
//! ([`Log::on_change`]). A line that nobody asked for is never formatted: callers pass [`fmt::Arguments`] and
//! [`Log::line`] looks at the mask first.

mod events;
mod filter;
mod items;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

pub use events::{TraceEvent, TraceEvents};
pub use filter::{AddressFilter, FilterError};
pub use items::{LogError, LogItems, LogMask};

/// A log file that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// A name with a percent sign that is not the one `%d` there may be.
    #[error("Bad logfile template: {0}; %d, once, stands for the number of the process")]
    Template(String),
    /// The host does not open it.
    #[error("Error opening logfile {}: {}", path.display(), reason(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

/// The host's reason without the number that Rust puts behind it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Where lines go.
type Sink = Box<dyn Write + Send>;
/// Who is told of changes.
type Watcher = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    mask: AtomicU32,
    events: TraceEvents,
    /// Lines of trace events begin with process and time.
    timestamps: AtomicBool,
    filter: RwLock<AddressFilter>,
    sink: Mutex<Option<Sink>>,
    /// A file was opened before: the next one is not emptied.
    appends: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
}

/// A [`Log`] that keeps nothing alive.
#[derive(Clone)]
pub struct WeakLog(Weak<Inner>);

impl fmt::Debug for WeakLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakLog")
    }
}

impl WeakLog {
    /// The log, if anybody still holds it.
    pub fn upgrade(&self) -> Option<Log> {
        self.0.upgrade().map(Log)
    }
}

/// A sink of log lines with the categories it takes. Cloning shares it.
#[derive(Clone, Default)]
pub struct Log(Arc<Inner>);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("mask", &self.mask()).finish_non_exhaustive()
    }
}

impl Log {
    /// A log that drops everything, until it is told where to write.
    pub fn none() -> Log {
        Log::default()
    }

    /// Lines of `mask` go to standard error (`-d` without `-D`).
    pub fn stderr(mask: LogMask) -> Log {
        Log::to(mask, io::stderr())
    }

    /// Lines of `mask` go to a file, as [`set_file`](Self::set_file) says.
    ///
    /// # Errors
    /// As there.
    pub fn file(mask: LogMask, template: &Path) -> Result<Log, LogFileError> {
        let log = Log::none();
        log.set_file(template)?;
        log.set_mask(mask);
        Ok(log)
    }

    /// Lines of `mask` go to any writer; each line is written at once.
    pub fn to(mask: LogMask, writer: impl Write + Send + 'static) -> Log {
        let log = Log::none();
        *log.0.sink.lock() = Some(Box::new(writer));
        log.set_mask(mask);
        log
    }

    /// From now on lines go to a file, in the name of which `%d` is the number of this process (`-D`, `logfile`). The first one
    /// is emptied, the next ones are written on, as in QEMU.
    ///
    /// # Errors
    /// A bad name, or what opening the file gives; lines go where they went then.
    pub fn set_file(&self, template: &Path) -> Result<(), LogFileError> {
        let path = file_name(template)?;
        let mut options = OpenOptions::new();
        match self.0.appends.load(Ordering::Relaxed) {
            true => options.append(true),
            false => options.write(true).truncate(true),
        };
        let file: File =
            options.create(true).open(&path).map_err(|source| LogFileError::Open { path, source })?;
        self.0.appends.store(true, Ordering::Relaxed);
        let before = self.0.sink.lock().replace(Box::new(file));
        drop(before);
        Ok(())
    }

    /// The log without keeping it alive: for what it keeps itself, as [`on_change`](Self::on_change).
    pub fn downgrade(&self) -> WeakLog {
        WeakLog(Arc::downgrade(&self.0))
    }

    /// What is logged.
    #[inline]
    pub fn mask(&self) -> LogMask {
        LogMask::of_bits(self.0.mask.load(Ordering::Relaxed))
    }

    /// Whether lines of this category are wanted.
    #[inline]
    pub fn enabled(&self, mask: LogMask) -> bool {
        mask != LogMask::NONE && self.mask().contains(mask)
    }

    /// Logs these categories from now on, and no others.
    pub fn set_mask(&self, mask: LogMask) {
        self.0.mask.store(mask.bits(), Ordering::Relaxed);
        self.tell_watchers();
    }

    /// The trace events.
    pub fn events(&self) -> &TraceEvents {
        &self.0.events
    }

    /// Turns the trace events on or off that are named like a pattern; whether there are any.
    pub fn set_events(&self, pattern: &str, on: bool) -> bool {
        let mut found = false;
        for event in TraceEvent::matching(pattern) {
            self.0.events.set(event, on);
            found = true;
        }
        self.tell_watchers();
        found
    }

    /// Whether lines of trace events begin with the process and the time (`-msg timestamp=on`).
    pub fn set_timestamps(&self, on: bool) {
        self.0.timestamps.store(on, Ordering::Relaxed);
    }

    /// Of which addresses code is logged (`-dfilter`).
    pub fn set_filter(&self, filter: AddressFilter) {
        *self.0.filter.write() = filter;
    }

    /// Whether code at an address is to be logged.
    pub fn is_wanted_at(&self, address: u64) -> bool {
        self.0.filter.read().has(address)
    }

    /// Has somebody told, now and then, that the categories or the trace events changed. No lock is held meanwhile.
    pub fn on_change(&self, watcher: impl Fn() + Send + Sync + 'static) {
        self.0.watchers.lock().push(Arc::new(watcher));
    }

    fn tell_watchers(&self) {
        let watchers = self.0.watchers.lock().clone();
        for watcher in watchers {
            watcher();
        }
    }

    /// Writes one line (the newline is added) if its category is wanted. A sink that fails is ignored: the guest must
    /// not stop because a disk is full.
    pub fn line(&self, mask: LogMask, args: fmt::Arguments<'_>) {
        if self.enabled(mask) {
            self.write(&format!("{args}\n"));
        }
    }

    /// Writes the line of a trace event, if that is on: its name, and what is told.
    pub fn trace(&self, event: TraceEvent, args: fmt::Arguments<'_>) {
        if !self.0.events.is_on(event) {
            return;
        }
        let name = event.name();
        if self.0.timestamps.load(Ordering::Relaxed) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let (seconds, micros) = (now.as_secs(), now.subsec_micros());
            self.write(&format!("{}@{seconds}.{micros:06}:{name} {args}\n", std::process::id()));
        } else {
            self.write(&format!("{name} {args}\n"));
        }
    }

    fn write(&self, text: &str) {
        if let Some(sink) = &mut *self.0.sink.lock() {
            let _ = sink.write_all(text.as_bytes());
            let _ = sink.flush();
        }
    }
}

/// The name that a template gives.
fn file_name(template: &Path) -> Result<PathBuf, LogFileError> {
    // What is no text has no sign of ours in it.
    let Some(text) = template.to_str() else { return Ok(template.to_owned()) };
    match text.split_once('%') {
        None => Ok(template.to_owned()),
        Some((before, after)) => match after.strip_prefix('d').filter(|rest| !rest.contains('%')) {
            Some(rest) => Ok(format!("{before}{}{rest}", std::process::id()).into()),
            None => Err(LogFileError::Template(text.to_owned())),
        },
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
    fn only_wanted_categories_are_written() {
        let buffer = LogBuffer::default();
        let log = Log::to(LogMask::UNIMP, buffer.clone());
        log.line(LogMask::GUEST_ERRORS, format_args!("no"));
        log.line(LogMask::UNIMP, format_args!("x{}", 1));
        assert_eq!(buffer.text(), "x1\n");
        assert!(!Log::none().enabled(LogMask::UNIMP));
    }

    #[test]
    fn what_is_logged_changes_for_all_who_share_the_log_and_watchers_are_told() {
        let buffer = LogBuffer::default();
        let log = Log::to(LogMask::NONE, buffer.clone());
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        log.on_change(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let shared = log.clone();
        shared.line(LogMask::INT, format_args!("no"));
        log.set_mask(LogMask::INT);
        shared.line(LogMask::INT, format_args!("yes"));
        assert!(log.set_events("memory_region_ops_*", true));
        assert!(!log.set_events("nonsense*", true));
        shared.trace(TraceEvent::MemoryRegionOpsRead, format_args!("cpu {}", 0));
        shared.trace(TraceEvent::MemoryRegionSubpageRead, format_args!("cpu {}", 0));
        assert_eq!(buffer.text(), "yes\nmemory_region_ops_read cpu 0\n");
        assert_eq!(told.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_trace_line_begins_with_process_and_time_if_wanted() {
        let buffer = LogBuffer::default();
        let log = Log::to(LogMask::NONE, buffer.clone());
        log.set_events("*", true);
        log.set_timestamps(true);
        log.trace(TraceEvent::MemoryRegionOpsWrite, format_args!("x"));
        let text = buffer.text();
        let (process, rest) = text.split_once('@').unwrap();
        assert_eq!(process, std::process::id().to_string());
        let (time, rest) = rest.split_once(':').unwrap();
        let (seconds, micros) = time.split_once('.').unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 1_000_000_000 && micros.len() == 6, "{time}");
        assert_eq!(rest, "memory_region_ops_write x\n");
    }

    #[test]
    fn the_first_file_is_emptied_and_the_next_ones_are_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first-%d"), folder.path().join("second"));
        let first_path = folder.path().join(format!("first-{}", std::process::id()));
        std::fs::write(&first_path, "old\n").unwrap();
        std::fs::write(&second, "old\n").unwrap();
        let log = Log::file(LogMask::INT, &first).unwrap();
        log.line(LogMask::INT, format_args!("a"));
        log.set_file(&second).unwrap();
        log.line(LogMask::INT, format_args!("b"));
        assert_eq!(std::fs::read_to_string(first_path).unwrap(), "a\n");
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "old\nb\n");
        let error = log.set_file(&folder.path().join("none/x")).unwrap_err().to_string();
        assert!(error.ends_with("none/x: No such file or directory"), "{error}");
        log.line(LogMask::INT, format_args!("c"));
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "old\nb\nc\n");
    }

    #[test]
    fn a_template_has_one_d_at_most() {
        for bad in ["a%", "a%s", "%d%d", "%%d"] {
            let error = file_name(Path::new(bad)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Bad logfile template: {bad}")), "{error}");
        }
        assert_eq!(file_name(Path::new("a")).unwrap(), PathBuf::from("a"));
    }
}
