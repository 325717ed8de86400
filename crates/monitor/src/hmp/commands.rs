//! The command table: names, parameters, help texts, and what runs.
//!
//! Names and parameters of commands that QEMU has are QEMU's, so that what people know works; the explanations are our own.

use super::args::Args;
use super::{Hmp, HmpError, dirty_rate, drives, dump, info, memory, objects, qom, tracing};
use crate::gdb::{self, GdbServer};
use flatview_board::device::LogMask;
use flatview_board::{Cause, Request};
use std::io::Write;

/// Carries a command out: parameters still to be read, output to be written.
pub type Run = fn(&mut Hmp, &mut Args<'_>, &mut dyn Write) -> Result<(), HmpError>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Name and aliases, separated by `|`.
    pub name: &'static str,
    /// Its parameters, as the help shows them.
    pub params: &'static str,
    /// One line of help, or several that are indented.
    pub help: &'static str,
    /// What it does.
    pub run: Run,
}

impl Command {
    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.name.split('|')
    }

    /// Its name proper.
    pub fn first_name(&self) -> &'static str {
        self.name.split('|').next().unwrap_or_default()
    }
}

/// A table of commands, in the order in which the help lists them.
pub type Commands = &'static [Command];

/// The commands.
pub fn commands() -> Commands {
    COMMANDS
}

/// What follows `info`.
pub fn info_commands() -> Commands {
    INFO
}

const COMMANDS: Commands = &[
    Command {
        name: "calc_dirty_rate",
        params: "[-r] [-b] second [sample_pages_per_GB]",
        help: "measure how fast memory is written, by looking at some pages twice\n\
               \t\t\t(-b by counting all that are written, -r by the dirty rings of KVM)",
        run: dirty_rate::calc,
    },
    Command {
        name: "cancel_vcpu_dirty_limit",
        params: "[cpu_index]",
        help: "let CPUs write as fast as they can",
        run: dirty_rate::cancel_limit,
    },
    Command {
        name: "change",
        params: "device [-f] filename [format [read-only-mode]]",
        help: "put another medium into a drive\n\
               \t\t\t-f although the guest holds the one that is in it; format: raw, or 'auto' to look at the image;\n\
               \t\t\tread-only-mode: retain, read-only or read-write (a CD is never written to)",
        run: drives::change,
    },
    Command { name: "cont|c", params: "", help: "let the machine run", run: cont },
    Command {
        name: "device_add",
        params: "driver[,prop=value][,...]",
        help: "add a device, like -device on the command line (pc-dimm,memdev=id)",
        run: objects::device_add,
    },
    Command {
        name: "device_del",
        params: "device",
        help: "remove a device by its id",
        run: objects::device_del,
    },
    Command {
        name: "dump-guest-memory",
        params: "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
        help: "write the guest's memory to a file, as an ELF core file\n\
               \t\t\t-p ask the CPUs for virtual addresses, -d return at once ('info dump' tells how far it is),\n\
               \t\t\t-z -l -s -w other formats, none of which is available\n\
               \t\t\tbegin, length: only these physical addresses",
        run: dump::dump_guest_memory,
    },
    Command {
        name: "eject",
        params: "[-f] device",
        help: "take the medium out of a drive, whose tray stays open (-f although the guest holds it)",
        run: drives::eject,
    },
    Command {
        name: "gdbserver",
        params: "[device]",
        help: "listen for gdb on device (tcp::1234 without one, as -gdb takes it); 'none' ends it",
        run: gdbserver,
    },
    Command {
        name: "gpa2hpa",
        params: "addr",
        help: "the host's physical address of the RAM at a guest physical address",
        run: memory::gpa2hpa,
    },
    Command {
        name: "gpa2hva",
        params: "addr",
        help: "where the host keeps the RAM at a guest physical address",
        run: memory::gpa2hva,
    },
    Command {
        name: "gva2gpa",
        params: "addr",
        help: "the guest physical address behind a guest virtual address",
        run: memory::gva2gpa,
    },
    Command { name: "help|?", params: "[cmd]", help: "list the commands, or explain one", run: help },
    Command {
        name: "i",
        params: "/fmt addr",
        help: "read an I/O port, side effects included",
        run: memory::port_read,
    },
    Command {
        name: "info",
        params: "[subcommand]",
        help: "tell about the machine; without a name, list what there is to tell",
        run: info_help,
    },
    Command {
        name: "log",
        params: "item1[,...]",
        help: "log these items and no others ('log help' lists them, 'log none' ends it)",
        run: tracing::log,
    },
    Command {
        name: "logfile",
        params: "filename",
        help: "write the log to a file, behind what is in it",
        run: tracing::logfile,
    },
    Command {
        name: "memsave",
        params: "addr size file",
        help: "write 'size' bytes of memory, by virtual address, to a file\n\
               \t\t\t(file in double quotes; without a running CPU virtual addresses are physical ones)",
        run: memory::memsave,
    },
    Command { name: "o", params: "/fmt addr value", help: "write an I/O port", run: memory::port_write },
    Command {
        name: "object_add",
        params: "[qom-type=]type,id=str[,prop=value][,...]",
        help: "make an object, like -object on the command line (memory-backend-ram,id=m,size=64M)",
        run: objects::object_add,
    },
    Command {
        name: "object_del",
        params: "id",
        help: "remove an object that nobody uses",
        run: objects::object_del,
    },
    Command {
        name: "pmemsave",
        params: "addr size file",
        help: "write 'size' bytes of memory, by physical address, to a file\n\
               \t\t\t(file in double quotes; what is not RAM or ROM is saved as zeros)",
        run: memory::pmemsave,
    },
    Command {
        name: "print|p",
        params: "/fmt expr",
        help: "work out an expression ($name is a CPU register)",
        run: memory::print,
    },
    Command {
        name: "qom-get",
        params: "path property",
        help: "the value of a property in the object tree",
        run: qom::get,
    },
    Command {
        name: "qom-list",
        params: "path",
        help: "properties and children of an object, with their types",
        run: qom::list,
    },
    Command { name: "quit|q", params: "", help: "end the emulator", run: quit },
    Command {
        name: "set_vcpu_dirty_limit",
        params: "dirty_rate [cpu_index]",
        help: "slow CPUs down that write faster than this (needs KVM)",
        run: dirty_rate::set_limit,
    },
    Command { name: "stop|s", params: "", help: "stop the machine", run: stop },
    Command {
        name: "sum",
        params: "addr size",
        help: "16-bit checksum of physical memory",
        run: memory::sum,
    },
    Command { name: "system_powerdown", params: "", help: "press the power button", run: system_powerdown },
    Command { name: "system_reset", params: "", help: "press the reset button", run: system_reset },
    Command {
        name: "trace-event",
        params: "name on|off [vcpu]",
        help: "log trace events with a name or pattern, or do so no more ('info trace-events' lists them)",
        run: tracing::trace_event,
    },
    Command {
        name: "x",
        params: "/fmt addr",
        help: "show memory by virtual address\n\
               \t\t\t(without a running CPU virtual addresses are physical ones)",
        run: memory::x,
    },
    Command { name: "xp", params: "/fmt addr", help: "show memory by physical address", run: memory::xp },
];

const INFO: Commands = &[
    Command {
        name: "block",
        params: "[-v] [device]",
        help: "drives and what is in them (-v: more about the images)",
        run: drives::info,
    },
    Command {
        name: "dirty_rate",
        params: "",
        help: "what calc_dirty_rate has measured",
        run: dirty_rate::info,
    },
    Command { name: "dump", params: "", help: "how far the last memory dump is", run: dump::info },
    Command { name: "history", params: "", help: "the commands given so far", run: info::history },
    Command {
        name: "mem",
        params: "",
        help: "which virtual addresses lead where, and what programs may do there",
        run: memory::mem,
    },
    Command { name: "memdev", params: "", help: "memory back ends", run: objects::memdev },
    Command {
        name: "memory-devices",
        params: "",
        help: "memory that is plugged",
        run: objects::memory_devices,
    },
    Command {
        name: "memory_size_summary",
        params: "",
        help: "bytes of RAM: at the start, and plugged",
        run: info::memory_size_summary,
    },
    Command {
        name: "mtree",
        params: "[-f][-d][-o][-D]",
        help: "memory regions: their tree, or\n\t\t\t-f the flat view of each address space, -d with -f how it is searched,\n\
               \t\t\t-o who owns each region, -D disabled regions too",
        run: info::mtree,
    },
    Command { name: "name", params: "", help: "the machine's name (-name)", run: info::name },
    Command { name: "numa", params: "", help: "NUMA nodes of the guest", run: info::numa },
    Command { name: "pic", params: "", help: "the state of the interrupt controllers", run: info::pic },
    Command {
        name: "qom-tree",
        params: "[path]",
        help: "the tree of objects, or the part below a path",
        run: info::qom_tree,
    },
    Command { name: "qtree", params: "", help: "buses, devices and their properties", run: info::qtree },
    Command { name: "ramblock", params: "", help: "the host memory behind RAM and ROM", run: info::ramblock },
    Command { name: "registers", params: "", help: "the CPUs' registers", run: memory::registers },
    Command { name: "roms", params: "", help: "images that were loaded", run: info::roms },
    Command { name: "status", params: "", help: "whether the machine runs", run: info::status },
    Command {
        name: "tlb",
        params: "",
        help: "the CPU's TLB; of a PowerPC segments and BATs too",
        run: memory::tlb,
    },
    Command {
        name: "trace-events",
        params: "[name] [vcpu]",
        help: "trace events with a name or pattern, and which are logged",
        run: tracing::info,
    },
    Command {
        name: "vcpu_dirty_limit",
        params: "",
        help: "how fast CPUs may write",
        run: dirty_rate::info_limit,
    },
    Command { name: "version", params: "", help: "the version of Flatview", run: info::version },
];

fn line(out: &mut dyn Write, prefix: &str, command: &Command) -> Result<(), HmpError> {
    Ok(writeln!(out, "{prefix}{} {} -- {}", command.name, command.params, command.help)?)
}

fn list(out: &mut dyn Write, prefix: &str, table: Commands) -> Result<(), HmpError> {
    table.iter().try_for_each(|command| line(out, prefix, command))
}

/// `help`, `help CMD`, `help info`, `help info CMD`.
fn help(_: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Result<(), HmpError> {
    let Some(name) = args.optional_word() else {
        return list(out, "", COMMANDS);
    };
    let sub = args.optional_word();
    let (table, prefix, wanted) = match (name.as_str(), sub) {
        ("info", None) => return list(out, "info ", INFO),
        ("info", Some(sub)) => (INFO, "info ", sub),
        // As QEMU: its items are what there is to know.
        ("log", None) => return Ok(out.write_all(LogMask::help(true).as_bytes())?),
        _ => (COMMANDS, "", name),
    };
    match table.iter().find(|c| c.names().any(|n| n == wanted)) {
        Some(command) => line(out, prefix, command),
        None => Ok(writeln!(out, "unknown command: '{prefix}{wanted}'")?),
    }
}

fn info_help(_: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    list(out, "info ", INFO)
}

fn quit(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    hmp.quit = true;
    hmp.machine.request(Request::Quit(Cause::HostQmpQuit));
    Ok(())
}

/// `gdbserver [device]`
fn gdbserver(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Result<(), HmpError> {
    let device = args.optional_word().unwrap_or_else(|| gdb::DEFAULT.to_owned());
    args.end()?;
    let server = GdbServer::of(&hmp.machine);
    if device == "none" {
        server.stop();
        return Ok(writeln!(out, "Disabled gdbserver")?);
    }
    let started = gdb::spec(&device).map_err(Into::into).and_then(|spec| server.start(&spec, || {}));
    match started {
        Ok(_) => writeln!(out, "Waiting for gdb connection on device '{device}'")?,
        Err(error) => {
            writeln!(out, "{error}")?;
            writeln!(out, "Could not open gdbserver on device '{device}'")?;
        }
    }
    Ok(())
}

fn stop(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    Ok(hmp.machine.perform(Request::Stop)?)
}

fn cont(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    Ok(hmp.machine.perform(Request::Continue)?)
}

fn system_reset(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    Ok(hmp.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset))?)
}

fn system_powerdown(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Result<(), HmpError> {
    args.end()?;
    Ok(hmp.machine.perform(Request::Powerdown)?)
}
