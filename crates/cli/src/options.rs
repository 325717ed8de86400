//! The command line, read: QEMU's options with QEMU's spelling and meaning.
//!
//! Long options take one dash or two; of an option that may stand once the last one counts, as in QEMU. This module opens
//! nothing and starts nothing: [`parse`] gives plain data.

use crate::drives::{self, Drive};
use crate::icount;
use crate::logging::{self, TraceOption};
use crate::rtc;
use crate::size;
use crate::suggest::hint;
use flatview_board::device::AddressFilter;
use flatview_board::{DriveConfig, IcountConfig, MemdevKind, MemdevSpec, Properties, RtcConfig};
use getopts::{Fail, Matches, Options as Getopts};
use std::path::PathBuf;
use thiserror::Error;

/// What is wrong with the command line; `Display` follows `flatview: `.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionError {
    /// An option that there is not.
    #[error("-{name}: invalid option{hint}")]
    Unknown {
        /// Without its dashes.
        name: String,
        /// The nearest option there is.
        hint: String,
    },
    /// An option without its argument.
    #[error("-{0}: requires an argument")]
    ArgumentMissing(String),
    /// `-S=1`
    #[error("-{0}: takes no argument")]
    UnexpectedArgument(String),
    /// An argument that is wrong.
    #[error("-{option} {value}: {reason}")]
    Bad {
        /// Without its dash.
        option: &'static str,
        /// As given.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A second word that belongs to no option.
    #[error(
        "{0}: only one disk image can be given without an option; others go to -drive, a firmware to -bios, a program to -kernel"
    )]
    Positional(String),
}

fn bad(option: &'static str, value: &str, reason: impl Into<String>) -> OptionError {
    OptionError::Bad { option, value: value.to_owned(), reason: reason.into() }
}

/// Something to print instead of running a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// `-h`
    Help,
    /// `-version`
    Version,
    /// `-M help`
    Machines,
    /// `-d help`
    LogItems,
    /// `-trace help`, `-d trace:help`
    TraceEvents,
    /// `-trace …,help`
    TraceOptions,
    /// `-cpu help`
    Cpus,
    /// `-device help`
    Devices,
    /// `-display help`
    Displays,
    /// `-object help`
    Objects,
    /// `-object TYPE,help`
    ObjectProperties(MemdevKind),
    /// `-device pc-dimm,help`
    DimmProperties,
}

/// What carries the guest's clock: `-accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// The default.
    #[default]
    Tcg,
    /// No CPU runs, and the clock goes as the qtest client says.
    Qtest,
}

/// A machine to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `-M`: the board.
    pub board: Option<String>,
    /// `-M BOARD,nvm-file=PATH`: where the `cpiom` board keeps its non-volatile memory.
    pub nvm_file: Option<PathBuf>,
    /// `-accel`
    pub accel: Accel,
    /// `-cpu`
    pub cpu: Option<String>,
    /// `-m`, in bytes; `None` (also for `-m 0`): the board's default.
    pub ram_size: Option<u64>,
    /// `-m slots=`
    pub ram_slots: u64,
    /// `-m maxmem=`, in bytes.
    pub ram_max: Option<u64>,
    /// `-machine memory-backend=`
    pub memory_backend: Option<String>,
    /// `-mem-path`
    pub mem_path: Option<PathBuf>,
    /// `-mem-prealloc`
    pub mem_prealloc: bool,
    /// `-object`, in order.
    pub memory_backends: Vec<MemdevSpec>,
    /// `-bios`
    pub bios: Option<PathBuf>,
    /// `-kernel`
    pub kernel: Option<PathBuf>,
    /// `-append`
    pub append: String,
    /// `-initrd`
    pub initrd: Option<PathBuf>,
    /// `-pflash`, or `-drive if=pflash`
    pub pflash: Option<PathBuf>,
    /// `-nvram`, or `-drive if=mtd`
    pub nvram: Option<PathBuf>,
    /// `-drive if=scsi`, `-cdrom`, `-hda` to `-hdd` and an image without an option, in this order.
    pub drives: Vec<DriveConfig>,
    /// `-L`, in order.
    pub firmware_dirs: Vec<PathBuf>,
    /// `-S`
    pub stopped: bool,
    /// `-gdb`, `-s`
    pub gdb: Option<String>,
    /// `-display none` was given.
    pub display_none: bool,
    /// `-nographic`
    pub nographic: bool,
    /// `-serial`, in order.
    pub serials: Vec<String>,
    /// `-parallel`, in order.
    pub parallels: Vec<String>,
    /// `-monitor`, in order.
    pub monitors: Vec<String>,
    /// `-qmp`, in order.
    pub qmps: Vec<String>,
    /// `-qtest`
    pub qtest: Option<String>,
    /// `-qtest-log`
    pub qtest_log: Option<PathBuf>,
    /// `-no-reboot`
    pub no_reboot: bool,
    /// `-no-shutdown`
    pub no_shutdown: bool,
    /// `-d`, as given.
    pub log: Vec<String>,
    /// `-D`
    pub log_file: Option<PathBuf>,
    /// `-dfilter`
    pub log_filter: AddressFilter,
    /// `-trace`, in order.
    pub traces: Vec<TraceOption>,
    /// `-msg timestamp=on`
    pub timestamps: bool,
    /// `-name`
    pub name: Option<String>,
    /// `-nodefaults`
    pub nodefaults: bool,
    /// `-rtc`
    pub rtc: RtcConfig,
    /// `-icount`
    pub icount: Option<IcountConfig>,
    /// `-device`, in order.
    pub devices: Vec<String>,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Text.
    Print(Print),
    /// A machine.
    Run(Box<Options>),
}

/// One option: its names, its argument as the help shows it (empty: none), its help.
struct Known {
    short: &'static str,
    long: &'static str,
    argument: &'static str,
    help: &'static str,
}

const fn known(short: &'static str, long: &'static str, argument: &'static str, help: &'static str) -> Known {
    Known { short, long, argument, help }
}

const OPTIONS: &[Known] = &[
    known("h", "help", "", "this text"),
    known("", "version", "", "the version"),
    known(
        "M",
        "machine",
        "[type=]name[,prop=value]",
        "the board ('-M help' for a list); properties: accel=tcg|qtest,\nmemory-backend=id (the RAM is that object), and nvm-file=path for the board cpiom",
    ),
    known("", "cpu", "model", "the CPU ('-cpu help' for a list), on boards that have a choice"),
    known("", "accel", "name", "tcg (default), or qtest: the clock goes as the qtest client says"),
    known(
        "m",
        "",
        "[size=]megs[,slots=n,maxmem=size]",
        "RAM size, MiB or with suffix k, M, G; default and limits are the board's;\nslots and addresses for memory devices (-device pc-dimm)",
    ),
    known(
        "",
        "object",
        "memory-backend-ram|file|memfd,id=id,size=size[,prop=value]",
        "memory for -machine memory-backend= or a pc-dimm ('-object help',\n'-object memory-backend-file,help'); may be given again",
    ),
    known("", "mem-path", "path", "the machine's RAM is this file, or a temporary one in this folder"),
    known("", "mem-prealloc", "", "all pages of the machine's RAM at once"),
    known("", "name", "string", "name of the machine, as 'info name' gives it"),
    known("", "bios", "file", "firmware, raw or ELF"),
    known("", "kernel", "file", "program to load: ELF; for the boards mips and mipsel a uImage too"),
    known("", "append", "cmdline", "command line for the program"),
    known("", "initrd", "file", "RAM disk for the program (boards mips and mipsel)"),
    known("", "pflash", "file", "contents of the board's flash"),
    known("", "nvram", "file", "what keeps the board's NVRAM (board 40p); made if it is not there"),
    known(
        "",
        "drive",
        "[if=scsi,]file=file[,media=disk|cdrom][,unit=n][,readonly=on|off][,format=raw][,id=id]",
        "a drive on the SCSI bus (board 40p), by default the first free unit;\nor if=pflash|mtd,file=file: the same as -pflash or -nvram",
    ),
    known("", "cdrom", "file", "a CD image in the drive at unit 2 of the SCSI bus (board 40p)"),
    known("", "hda", "file", "a disk image at unit 0 of the SCSI bus; so does a file without an option"),
    known("", "hdb", "file", "the same at unit 1"),
    known("", "hdc", "file", "the same at unit 2"),
    known("", "hdd", "file", "the same at unit 3"),
    known("L", "", "path", "folder to search for firmware; may be given again"),
    known("", "device", "driver", "add a device ('-device help' for a list); may be given again"),
    known("", "nodefaults", "", "no serial port and no monitor but those named"),
    known("S", "", "", "do not start: the monitor's 'cont' or gdb's 'continue' lets the machine go"),
    known("s", "", "", "the same as -gdb tcp::1234"),
    known(
        "",
        "gdb",
        "dev",
        "listen for gdb on dev (gdb: 'target remote :1234'); over tcp always as a server that\ndoes not wait",
    ),
    known(
        "",
        "rtc",
        "[base=utc|datetime][,clock=host|rt|vm]",
        "date that clock chips show at start (2026-11-22T16:05:06), and what it goes with:\nthe host's time, or the machine's",
    ),
    known(
        "",
        "icount",
        "[shift=]N|auto[,sleep=on|off][,align=on|off]",
        "time goes with instructions, 2^N ns each: every run is like the one before;\nsleep=off: what is waited for comes at once",
    ),
    known("", "no-reboot", "", "end where the machine would reset"),
    known("", "no-shutdown", "", "stop where the guest would end the machine; the monitor goes on"),
    known("", "display", "type", "none is the only one"),
    known("", "nographic", "", "serial port and monitor share standard input and output (Ctrl-A h: help)"),
    known("", "serial", "dev", "serial port to dev; may be given again"),
    known("", "parallel", "dev", "parallel port to dev, such as file:NAME; may be given again"),
    known("", "monitor", "dev", "monitor on dev; may be given again"),
    known("", "qmp", "dev", "QMP on dev; may be given again"),
    known("", "qtest", "dev", "qtest protocol on dev"),
    known("", "qtest-log", "file", "copy of the qtest conversation; none: no copy (default)"),
    known("d", "", "item1,...", "log items ('-d help' for a list)"),
    known("D", "", "file", "log to file instead of standard error (%d: the number of the process)"),
    known(
        "",
        "dfilter",
        "range,...",
        "log code (in_asm, exec, cpu) only of these addresses: first..last, start+size, end-size",
    ),
    known(
        "",
        "trace",
        "[[enable=]pattern][,events=file][,file=file]",
        "log trace events with a name like pattern ('-trace help' for a list), or those that a\nfile lists; file: as -D; may be given again",
    ),
    known(
        "",
        "msg",
        "timestamp[=on|off]",
        "lines of trace events begin with the number of the process and the time",
    ),
];

impl Known {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.short, self.long].into_iter().filter(|name| !name.is_empty())
    }
}

/// The text of `-h`.
pub fn help() -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{}\n\
         usage: flatview [options]\n\
         \x20      flatview mtree CAPTURE [--answers FLAT] [-f] [--show-answers] [--at ADDRESS [--space NAME]]\n\n\
         A machine's memory map, its monitor and its test protocols, with QEMU's command line.\n\
         'flatview mtree -h' is about reading captured memory maps.\n\nOptions:\n",
        version()
    );
    for option in OPTIONS {
        let names = option.names().map(|name| format!("-{name}")).collect::<Vec<_>>().join(" or ");
        let left = format!("{names} {}", option.argument);
        let mut lines = option.help.lines();
        let first = lines.next().unwrap_or_default();
        let left = left.trim_end();
        if left.len() < 16 {
            let _ = writeln!(text, "{left:<16}{first}");
        } else {
            let _ = writeln!(text, "{left}\n{:16}{first}", "");
        }
        for line in lines {
            let _ = writeln!(text, "{:16}{line}", "");
        }
    }
    text.push_str(
        "\ndev is one of: none, null, stdio, mon:stdio (shared with the monitor), file:path, pty,\n\
         tcp:host:port[,server[,nowait]], unix:path[,server[,nowait]]\n\n\
         Try: flatview -M 40p -S -monitor stdio    and there: info mtree\n",
    );
    text
}

/// The text of `-version`, one line.
pub fn version() -> String {
    format!("Flatview emulator version {}", flatview_monitor::VERSION)
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// [`OptionError`] names the option and what would be right.
pub fn parse(args: &[String]) -> Result<Asked, OptionError> {
    let mut getopts = Getopts::new();
    getopts.long_only(true);
    for option in OPTIONS {
        if option.argument.is_empty() {
            getopts.optflagmulti(option.short, option.long, "");
        } else {
            getopts.optmulti(option.short, option.long, "", "");
        }
    }
    let matches = getopts.parse(args).map_err(|fail| match fail {
        Fail::UnrecognizedOption(name) => {
            let hint = hint(&name, OPTIONS.iter().flat_map(Known::names), "-");
            OptionError::Unknown { name, hint }
        }
        Fail::ArgumentMissing(name) => OptionError::ArgumentMissing(name),
        Fail::UnexpectedArgument(name) => OptionError::UnexpectedArgument(name),
        // Every option may come again and none is required.
        Fail::OptionDuplicated(name) | Fail::OptionMissing(name) => {
            OptionError::Unknown { name, hint: String::new() }
        }
    })?;
    if matches.opt_present("help") {
        return Ok(Asked::Print(Print::Help));
    }
    if matches.opt_present("version") {
        return Ok(Asked::Print(Print::Version));
    }
    for (option, print) in [
        ("machine", Print::Machines),
        ("d", Print::LogItems),
        ("cpu", Print::Cpus),
        ("device", Print::Devices),
        ("display", Print::Displays),
        ("object", Print::Objects),
    ] {
        if matches.opt_strs(option).iter().any(|value| matches!(value.as_str(), "help" | "?")) {
            return Ok(Asked::Print(print));
        }
    }
    if let Some(print) = logging::question(&matches.opt_strs("trace"), &matches.opt_strs("d")) {
        return Ok(Asked::Print(print));
    }
    for text in matches.opt_strs("object") {
        let (name, rest) = text.split_once(',').unwrap_or((&text, ""));
        let kind = MemdevKind::ALL.into_iter().find(|kind| kind.name() == name);
        if let Some(kind) = kind.filter(|_| rest.split(',').any(is_help)) {
            return Ok(Asked::Print(Print::ObjectProperties(kind)));
        }
    }
    if matches.opt_strs("device").iter().any(|text| text.strip_prefix("pc-dimm,").is_some_and(is_help)) {
        return Ok(Asked::Print(Print::DimmProperties));
    }
    if let Some(word) = matches.free.get(1) {
        return Err(OptionError::Positional(word.clone()));
    }
    run_options(&matches).map(|options| Asked::Run(Box::new(options)))
}

fn run_options(matches: &Matches) -> Result<Options, OptionError> {
    let last = |name: &str| matches.opt_strs(name).pop();
    let path = |name: &str| last(name).map(PathBuf::from);
    let mut options = Options {
        bios: path("bios"),
        kernel: path("kernel"),
        append: last("append").unwrap_or_default(),
        initrd: path("initrd"),
        cpu: last("cpu"),
        pflash: path("pflash"),
        nvram: path("nvram"),
        firmware_dirs: matches.opt_strs("L").into_iter().map(PathBuf::from).collect(),
        stopped: matches.opt_present("S"),
        gdb: last("gdb").or_else(|| matches.opt_present("s").then(|| "tcp::1234".to_owned())),
        nographic: matches.opt_present("nographic"),
        serials: matches.opt_strs("serial"),
        parallels: matches.opt_strs("parallel"),
        monitors: matches.opt_strs("monitor"),
        qmps: matches.opt_strs("qmp"),
        qtest: last("qtest"),
        qtest_log: path("qtest-log").filter(|path| path.as_os_str() != "none"),
        no_reboot: matches.opt_present("no-reboot"),
        no_shutdown: matches.opt_present("no-shutdown"),
        log: matches.opt_strs("d"),
        log_file: path("D"),
        nodefaults: matches.opt_present("nodefaults"),
        devices: matches.opt_strs("device"),
        mem_path: path("mem-path"),
        mem_prealloc: matches.opt_present("mem-prealloc"),
        ..Options::default()
    };
    for text in matches.opt_strs("machine") {
        machine(&text, &mut options)?;
    }
    if let Some(text) = last("accel") {
        options.accel = accel("accel", &text, text.strip_prefix("accel=").unwrap_or(&text))?;
    }
    if let Some(text) = last("m") {
        memory(&text, &mut options)?;
    }
    for text in matches.opt_strs("object") {
        let spec = object(&text)?;
        if options.memory_backends.iter().any(|known| known.id == spec.id) {
            return Err(bad("object", &text, format!("Duplicate ID '{}' for object", spec.id)));
        }
        options.memory_backends.push(spec);
    }
    for text in matches.opt_strs("drive") {
        match drives::drive(&text).map_err(|reason| bad("drive", &text, reason))? {
            Drive::Flash(path) => options.pflash = Some(path),
            Drive::Nvram(path) => options.nvram = Some(path),
            Drive::Scsi(drive) => options.drives.push(drive),
        }
    }
    options.drives.extend(matches.opt_strs("cdrom").iter().map(|path| drives::cdrom(path)));
    for (unit, option) in (0..).zip(["hda", "hdb", "hdc", "hdd"]) {
        let given = matches.opt_strs(option);
        options.drives.extend(given.iter().map(|path| drives::disk(&format!("-{option}"), path, unit)));
    }
    options.drives.extend(matches.free.iter().map(|path| drives::disk("", path, 0)));
    if let Some(text) = last("display") {
        match text.split(',').next() {
            Some("none") => options.display_none = true,
            other => {
                let reason = format!(
                    "Parameter 'type' does not accept value '{}'; none is the only display",
                    other.unwrap_or_default()
                );
                return Err(bad("display", &text, reason));
            }
        }
    }
    if let Some(text) = last("rtc") {
        options.rtc = rtc::parse(&text).map_err(|reason| bad("rtc", &text, reason))?;
    }
    if let Some(text) = last("icount") {
        options.icount = Some(icount::parse(&text).map_err(|reason| bad("icount", &text, reason))?);
    }
    if let Some(text) = last("name") {
        options.name = name(&text)?;
    }
    for text in matches.opt_strs("trace") {
        let trace = TraceOption::parse(&text).map_err(|reason| bad("trace", &text, reason))?;
        options.traces.push(trace);
    }
    if let Some(text) = last("dfilter") {
        options.log_filter =
            AddressFilter::parse(&text).map_err(|reason| bad("dfilter", &text, reason.to_string()))?;
    }
    if let Some(text) = last("msg") {
        options.timestamps = logging::timestamps(&text).map_err(|reason| bad("msg", &text, reason))?;
    }
    Ok(options)
}

/// `-M [type=]name[,prop=value]`
fn machine(text: &str, options: &mut Options) -> Result<(), OptionError> {
    for (position, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            Some(("type", board)) => options.board = Some(board.to_owned()),
            Some(("accel", value)) => options.accel = accel("machine", text, value)?,
            Some(("nvm-file", path)) => options.nvm_file = Some(path.into()),
            Some(("memory-backend", id)) => options.memory_backend = Some(id.to_owned()),
            None if position == 0 => options.board = Some(part.to_owned()),
            _ => {
                let property = part.split('=').next().unwrap_or_default();
                let board = options.board.as_deref().unwrap_or_default();
                let hint = hint(property, ["type", "accel", "nvm-file", "memory-backend"], "");
                return Err(bad(
                    "machine",
                    text,
                    format!("Property '{board}-machine.{property}' not found{hint}"),
                ));
            }
        }
    }
    Ok(())
}

fn accel(option: &'static str, text: &str, name: &str) -> Result<Accel, OptionError> {
    // `tcg:qtest` means the first that works; `tcg,thread=single` has properties of no meaning here.
    match name.split([':', ',']).next() {
        Some("tcg") => Ok(Accel::Tcg),
        Some("qtest") => Ok(Accel::Qtest),
        other => Err(bad(
            option,
            text,
            format!("invalid accelerator {}; there are tcg and qtest", other.unwrap_or_default()),
        )),
    }
}

fn is_help(word: &str) -> bool {
    matches!(word, "help" | "?")
}

/// `-m [size=]megs[,slots=n,maxmem=size]`; the size is rounded up to 8 KiB, as in QEMU.
fn memory(text: &str, options: &mut Options) -> Result<(), OptionError> {
    let parse = |name: &str, value: &str| size::parse(name, value).map_err(|reason| bad("m", text, reason));
    let mut size = 0;
    let (mut slots, mut max) = (None, None);
    for (position, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            Some(("size", value)) => size = parse("size", value)?,
            Some(("maxmem", value)) => max = Some(parse("maxmem", value)?),
            Some(("slots", value)) => {
                let number = value.parse::<u64>().ok();
                let reason = || bad("m", text, "Parameter 'slots' expects a number");
                slots = Some(number.ok_or_else(reason)?);
            }
            None if position == 0 => size = parse("size", part)?,
            _ => {
                let name = part.split('=').next().unwrap_or_default();
                let reason = format!("Invalid parameter '{name}'; there are size, slots and maxmem");
                return Err(bad("m", text, reason));
            }
        }
    }
    if slots.is_some() && max.is_none() {
        return Err(bad("m", text, "slots specified but no max-size; add maxmem=size"));
    }
    let rounded = size.checked_next_multiple_of(8192).ok_or_else(|| bad("m", text, "ram size too large"))?;
    options.ram_size = Some(rounded).filter(|&size| size > 0);
    options.ram_slots = slots.unwrap_or(0);
    options.ram_max = max;
    Ok(())
}

/// `-object memory-backend-…,id=id,size=size[,prop=value]`
fn object(text: &str) -> Result<MemdevSpec, OptionError> {
    MemdevSpec::of(Properties::of_text("qom-type", text))
        .map_err(|error| bad("object", text, error.with_hint()))
}

/// `-name [guest=]string[,debug-threads=on|off][,process=string]`
fn name(text: &str) -> Result<Option<String>, OptionError> {
    let mut name = None;
    for (position, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            Some(("guest", guest)) => name = Some(guest.to_owned()),
            Some(("debug-threads" | "process", _)) => {}
            None if position == 0 => name = Some(part.to_owned()),
            _ => {
                let key = part.split('=').next().unwrap_or_default();
                return Err(bad("name", text, format!("Invalid parameter '{key}'")));
            }
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_board::RtcClock;

    fn asked(line: &str) -> Result<Asked, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args).map_err(|e| e.to_string())
    }

    fn options(line: &str) -> Options {
        match asked(line) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_session_of_the_readme_is_understood() {
        let options = options("-M 40p -s -S -monitor stdio");
        assert_eq!(options.board.as_deref(), Some("40p"));
        assert_eq!(options.gdb.as_deref(), Some("tcp::1234"));
        assert!(options.stopped);
        assert_eq!(options.monitors, ["stdio"]);
    }

    #[test]
    fn the_date_of_clock_chips_is_taken_or_refused() {
        let rtc = options("-M mips -rtc base=1970-01-02,clock=vm").rtc;
        assert_eq!(rtc, RtcConfig { base: Some(86_400), clock: RtcClock::Machine });
        assert!(asked("-M mips -rtc base=noon").unwrap_err().contains("2006-06-17"));
    }

    #[test]
    fn one_dash_and_two_mean_the_same_and_the_last_one_counts() {
        let options = options(
            "--machine mips -M type=40p,accel=qtest -m 64 -m size=1G -bios a --bios b -name x,process=y",
        );
        assert_eq!(options.board.as_deref(), Some("40p"));
        assert_eq!(options.accel, Accel::Qtest);
        assert_eq!(options.ram_size, Some(1 << 30));
        assert_eq!(options.bios, Some("b".into()));
        assert_eq!(options.name.as_deref(), Some("x"));
    }

    #[test]
    fn lists_keep_their_order() {
        let options =
            options("-serial null -L a -serial mon:stdio -L b -device pc-testdev -d unimp -d guest_errors");
        assert_eq!(options.serials, ["null", "mon:stdio"]);
        assert_eq!(options.firmware_dirs, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(options.devices, ["pc-testdev"]);
        assert_eq!(options.log, ["unimp", "guest_errors"]);
    }

    #[test]
    fn a_flash_drive_is_a_flash_file() {
        assert_eq!(options("-drive if=pflash,format=raw,unit=0,file=a,,b").pflash, Some("a,b".into()));
        assert_eq!(options("-drive if=mtd,format=raw,file=a").nvram, Some("a".into()));
        assert_eq!(options("-nvram a").nvram, Some("a".into()));
    }

    #[test]
    fn images_have_their_places_on_the_bus() {
        let options = options("-hdb b -cdrom c -drive media=cdrom a -hda d");
        let drives: Vec<_> = options.drives.iter().map(|drive| (drive.option.as_str(), drive.unit)).collect();
        let wanted = [
            ("-drive media=cdrom", None),
            ("-cdrom c", Some(2)),
            ("-hda d", Some(0)),
            ("-hdb b", Some(1)),
            ("a", Some(0)),
        ];
        assert_eq!(drives, wanted);
    }

    #[test]
    fn a_program_comes_with_its_ram_disk_and_cpu() {
        let options = options("-M mips -kernel k -initrd i -cpu 24Kc -no-shutdown");
        assert_eq!((options.initrd, options.cpu.as_deref()), (Some("i".into()), Some("24Kc")));
        assert!(options.no_shutdown && !options.no_reboot);
    }

    #[test]
    fn an_argument_may_start_with_a_dash() {
        assert_eq!(options("-name -x").name.as_deref(), Some("-x"));
    }

    #[test]
    fn errors_name_the_option_and_the_cure() {
        for (line, text) in [
            ("-foo", "-foo: invalid option"),
            ("-moniter stdio", "-moniter: invalid option; did you mean '-monitor'?"),
            ("--no-grafic", "-no-grafic: invalid option; did you mean '-nographic'?"),
            ("-m", "-m: requires an argument"),
            ("-M", "-M: requires an argument"),
            ("-S=1", "-S: takes no argument"),
            ("-M 40p,foo=bar", "-machine 40p,foo=bar: Property '40p-machine.foo' not found"),
            ("-m 64M,foo=3", "-m 64M,foo=3: Invalid parameter 'foo'; there are size, slots and maxmem"),
            ("-m 64M,slots=3", "-m 64M,slots=3: slots specified but no max-size; add maxmem=size"),
            ("-m 64M,slots=x,maxmem=1G", "-m 64M,slots=x,maxmem=1G: Parameter 'slots' expects a number"),
            ("-object id=m0", "-object id=m0: Parameter 'qom-type' is missing"),
            (
                "-object memory-backend-ram,id=m0",
                "-object memory-backend-ram,id=m0: Parameter 'size' is missing",
            ),
            (
                "-object memory-backend-ram,id=m0,size=1M -object memory-backend-ram,id=m0,size=2M",
                "-object memory-backend-ram,id=m0,size=2M: Duplicate ID 'm0' for object",
            ),
            ("-drive if=pflash", "-drive if=pflash: file=path is missing"),
            ("-accel kvm", "-accel kvm: invalid accelerator kvm; there are tcg and qtest"),
            (
                "-display gtk",
                "-display gtk: Parameter 'type' does not accept value 'gtk'; none is the only display",
            ),
            (
                "disk.img other.img",
                "other.img: only one disk image can be given without an option; others go to -drive, a firmware to -bios, a program to -kernel",
            ),
        ] {
            assert_eq!(asked(line), Err(text.to_owned()), "{line}");
        }
        assert!(asked("-m abc").unwrap_err().starts_with("-m abc: Parameter 'size' expects"));
    }

    #[test]
    fn questions_are_answered_before_anything_else_is_looked_at() {
        for (line, print) in [
            ("-h", Print::Help),
            ("--help", Print::Help),
            ("-version disk.img", Print::Version),
            ("-M help", Print::Machines),
            ("-machine ?", Print::Machines),
            ("-d help -M nonsense", Print::LogItems),
            ("-M mips -cpu help", Print::Cpus),
            ("-device help", Print::Devices),
            ("-display help", Print::Displays),
            ("-object help", Print::Objects),
            ("-object memory-backend-file,help", Print::ObjectProperties(MemdevKind::File)),
            ("-device pc-dimm,help", Print::DimmProperties),
        ] {
            assert_eq!(asked(line), Ok(Asked::Print(print)), "{line}");
        }
    }

    #[test]
    fn memory_of_zero_is_the_default_and_sizes_are_rounded() {
        assert_eq!(options("-m 0").ram_size, None);
        assert_eq!(options("-m 8193b").ram_size, Some(16384));
    }

    #[test]
    fn back_ends_slots_and_the_largest_memory_are_understood() {
        let options = options(
            "-m 64,slots=2,maxmem=1G -machine cpiom,memory-backend=m0 -mem-prealloc -mem-path /tmp \
             -object memory-backend-ram,id=m0,size=64M -object memory-backend-memfd,id=m1,size=1M,share=off",
        );
        assert_eq!(options.ram_size, Some(64 << 20));
        assert_eq!((options.ram_slots, options.ram_max), (2, Some(1 << 30)));
        assert_eq!(options.memory_backend.as_deref(), Some("m0"));
        assert!(options.mem_prealloc);
        assert_eq!(options.mem_path, Some("/tmp".into()));
        let ids: Vec<_> = options.memory_backends.iter().map(|spec| spec.id.as_str()).collect();
        assert_eq!(ids, ["m0", "m1"]);
        assert!(!options.memory_backends[1].share);
    }

    #[test]
    fn the_help_names_every_option() {
        let help = help();
        for name in OPTIONS.iter().flat_map(Known::names) {
            assert!(help.contains(&format!("-{name}")), "{name}");
        }
    }
}
