//! The commands of QMP: their parameters, checked as QEMU checks them, and what they do.

use super::{QmpError, QmpSession, tracing};
use crate::guest::{self, Unreadable};
use crate::text::{NO_DIRTY_LIMIT, NO_NUMA, ramblock_table, rom_table};
use flatview_board::device::QomValue;
use flatview_board::{
    Cause, DimmInfo, DirtyRateMode, DirtyRateSpec, DumpFormat, DumpInfo, DumpSpec, Given, Machine,
    MemdevSpec, Properties, QomError, Request,
};
use serde_json::{Map, Value, json};

/// What a parameter must be; the name that QEMU's messages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A signed 64-bit integer.
    Integer,
    /// A whole number that is not negative.
    Unsigned,
    /// True or false.
    Boolean,
    /// A text.
    String,
    /// A list.
    Array,
    /// Anything: the command reads it itself.
    Any,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Unsigned => "uint64",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Array => "array",
            Self::Any => "value",
        }
    }

    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Integer => value.is_i64(),
            Self::Unsigned => value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Any => true,
        }
    }
}

/// One parameter of a command.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// It may be left out.
    pub optional: bool,
}

pub(super) const fn needed(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: false }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: true }
}

/// Stands for parameters of any name: the command reads them itself.
const OTHERS: Parameter = optional("*", Kind::Any);

/// A command's arguments, all of them known and of the right kind.
#[derive(Debug, Default)]
pub struct Parameters<'a>(Option<&'a Map<String, Value>>);

impl<'a> Parameters<'a> {
    /// Checks `given` against what the command takes.
    ///
    /// # Errors
    /// A parameter that is missing, of the wrong kind, or unknown.
    pub fn check(known: &[Parameter], given: Option<&'a Map<String, Value>>) -> Result<Self, QmpError> {
        for parameter in known {
            match given.and_then(|map| map.get(parameter.name)) {
                None if parameter.optional => {}
                None => return Err(QmpError::Generic(format!("Parameter '{}' is missing", parameter.name))),
                Some(value) if parameter.kind.accepts(value) => {}
                Some(_) if parameter.kind == Kind::Unsigned => {
                    return Err(QmpError::Generic(format!("Parameter '{}' expects uint64", parameter.name)));
                }
                Some(_) => {
                    return Err(QmpError::Generic(format!(
                        "Invalid parameter type for '{}', expected: {}",
                        parameter.name,
                        parameter.kind.name()
                    )));
                }
            }
        }
        let others = known.iter().any(|k| k.name == OTHERS.name);
        let is_unknown = |name: &str| !others && known.iter().all(|k| k.name != name);
        let unknown = given.into_iter().flatten().find(|(name, _)| is_unknown(name));
        match unknown {
            Some((name, _)) => Err(QmpError::Generic(format!("Parameter '{name}' is unexpected"))),
            None => Ok(Self(given)),
        }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.and_then(|map| map.get(name))
    }

    /// A list, if it was given.
    pub fn array(&self, name: &str) -> Option<&'a Vec<Value>> {
        self.value(name).and_then(Value::as_array)
    }

    /// All of them, for a command that reads them itself.
    fn properties(&self) -> Properties {
        let mut properties = Properties::default();
        for (name, value) in self.0.into_iter().flatten() {
            properties.set(name, given(value));
        }
        properties
    }

    /// A text; empty if it was not given.
    pub(super) fn string(&self, name: &str) -> &'a str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// True or false; false if it was not given.
    pub(super) fn boolean(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A whole number, if it was given.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(Value::as_i64)
    }

    /// One of the names that there are; the first if it was not given.
    fn one_of<T: Copy + Default>(
        &self,
        name: &str,
        all: &[T],
        text: fn(T) -> &'static str,
    ) -> Result<T, QmpError> {
        let Some(given) = self.value(name).and_then(Value::as_str) else { return Ok(T::default()) };
        let found = all.iter().copied().find(|value| text(*value) == given);
        found.ok_or_else(|| QmpError::Generic(format!("Parameter '{name}' does not accept value '{given}'")))
    }

    /// An address: negative numbers wrap, as in QEMU.
    fn address(&self, name: &str) -> u64 {
        self.integer(name).map(i64::cast_unsigned).unwrap_or_default()
    }

    /// A size.
    fn size(&self, name: &str) -> Result<u64, QmpError> {
        self.value(name)
            .and_then(Value::as_u64)
            .ok_or_else(|| QmpError::Generic(format!("Parameter '{name}' expects a size of at least 0")))
    }
}

/// A JSON value as a property's.
fn given(value: &Value) -> Given {
    match value {
        Value::Bool(value) => Given::Bool(*value),
        Value::String(text) => Given::String(text.clone()),
        Value::Array(values) => Given::List(values.iter().map(whole).collect()),
        Value::Number(_) => whole(value).map_or(Given::Other, Given::Integer),
        Value::Null | Value::Object(_) => Given::Other,
    }
}

/// A whole number of at most 64 bits.
fn whole(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
}

/// Carries a command out.
pub type Run = fn(&mut QmpSession, &Parameters<'_>) -> Result<Value, QmpError>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// What it does.
    pub run: Run,
}

/// Finds a command by its name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

const SAVE: &[Parameter] =
    &[needed("val", Kind::Integer), needed("size", Kind::Integer), needed("filename", Kind::String)];

const SAVE_OF_CPU: &[Parameter] = &[
    needed("val", Kind::Integer),
    needed("size", Kind::Integer),
    needed("filename", Kind::String),
    optional("cpu-index", Kind::Integer),
];

const DUMP: &[Parameter] = &[
    needed("paging", Kind::Boolean),
    needed("protocol", Kind::String),
    optional("detach", Kind::Boolean),
    optional("begin", Kind::Integer),
    optional("length", Kind::Integer),
    optional("format", Kind::String),
];

const DIRTY_RATE: &[Parameter] = &[
    needed("calc-time", Kind::Integer),
    optional("sample-pages", Kind::Integer),
    optional("mode", Kind::String),
];

const COMMANDS: &[Command] = &[
    Command { name: "qmp_capabilities", parameters: &[], run: |_, _| Ok(json!({})) },
    Command { name: "query-version", parameters: &[], run: |_, _| Ok(version()) },
    Command { name: "query-commands", parameters: &[], run: query_commands },
    Command { name: "query-status", parameters: &[], run: query_status },
    Command { name: "query-name", parameters: &[], run: query_name },
    Command { name: "query-machines", parameters: &[], run: query_machines },
    Command { name: "query-cpus-fast", parameters: &[], run: |_, _| Ok(json!([])) },
    Command {
        name: "query-kvm",
        parameters: &[],
        run: |_, _| Ok(json!({"enabled": false, "present": false})),
    },
    Command { name: "query-memory-size-summary", parameters: &[], run: query_memory_size_summary },
    Command { name: "query-memdev", parameters: &[], run: query_memdev },
    Command { name: "query-memory-devices", parameters: &[], run: query_memory_devices },
    Command { name: "object-add", parameters: &[OTHERS], run: object_add },
    Command { name: "object-del", parameters: &[needed("id", Kind::String)], run: object_del },
    Command { name: "device_add", parameters: &[OTHERS], run: device_add },
    Command { name: "device_del", parameters: &[needed("id", Kind::String)], run: device_del },
    Command {
        name: "qom-get",
        parameters: &[needed("path", Kind::String), needed("property", Kind::String)],
        run: qom_get,
    },
    Command { name: "qom-list", parameters: &[needed("path", Kind::String)], run: qom_list },
    Command { name: "dump-guest-memory", parameters: DUMP, run: dump_guest_memory },
    Command { name: "query-dump", parameters: &[], run: query_dump },
    Command {
        name: "query-dump-guest-memory-capability",
        parameters: &[],
        run: |_, _| {
            Ok(json!({"formats": DumpFormat::available().map(DumpFormat::as_str).collect::<Vec<_>>()}))
        },
    },
    Command { name: "calc-dirty-rate", parameters: DIRTY_RATE, run: calc_dirty_rate },
    Command { name: "query-dirty-rate", parameters: &[], run: query_dirty_rate },
    Command {
        name: "set-vcpu-dirty-limit",
        parameters: &[optional("cpu-index", Kind::Integer), needed("dirty-rate", Kind::Unsigned)],
        run: |_, _| Err(QmpError::generic(NO_DIRTY_LIMIT)),
    },
    Command {
        name: "cancel-vcpu-dirty-limit",
        parameters: &[optional("cpu-index", Kind::Integer)],
        run: |_, _| Ok(json!({})),
    },
    Command { name: "query-vcpu-dirty-limit", parameters: &[], run: |_, _| Ok(json!([])) },
    Command {
        name: "x-query-numa",
        parameters: &[],
        run: |_, _| Ok(json!({"human-readable-text": NO_NUMA})),
    },
    Command { name: "x-query-ramblock", parameters: &[], run: query_ramblock },
    Command { name: "x-query-roms", parameters: &[], run: query_roms },
    Command {
        name: "human-monitor-command",
        parameters: &[needed("command-line", Kind::String), optional("cpu-index", Kind::Integer)],
        run: human_monitor_command,
    },
    Command { name: "trace-event-get-state", parameters: tracing::GET, run: tracing::get },
    Command { name: "trace-event-set-state", parameters: tracing::SET, run: tracing::set },
    Command { name: "memsave", parameters: SAVE_OF_CPU, run: memsave },
    Command { name: "pmemsave", parameters: SAVE, run: pmemsave },
    Command {
        name: "system_reset",
        parameters: &[],
        run: |session, _| perform(session, Request::SystemReset(Cause::HostQmpSystemReset)),
    },
    Command {
        name: "system_powerdown",
        parameters: &[],
        run: |session, _| perform(session, Request::Powerdown),
    },
    Command { name: "stop", parameters: &[], run: |session, _| perform(session, Request::Stop) },
    Command { name: "cont", parameters: &[], run: |session, _| perform(session, Request::Continue) },
    Command { name: "quit", parameters: &[], run: quit },
];

/// The version object of the greeting and of `query-version`: Flatview's own number, where QEMU's clients look for one.
pub fn version() -> Value {
    let mut numbers = crate::VERSION.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0_u32));
    let mut next = || numbers.next().unwrap_or(0);
    let (major, minor, micro) = (next(), next(), next());
    json!({
        "qemu": {"micro": micro, "minor": minor, "major": major},
        "package": format!("Flatview {}", crate::VERSION),
    })
}

fn perform(session: &mut QmpSession, request: Request) -> Result<Value, QmpError> {
    session.machine.perform(request)?;
    Ok(json!({}))
}

fn quit(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    session.quit = true;
    perform(session, Request::Quit(Cause::HostQmpQuit))
}

fn query_commands(_: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    Ok(COMMANDS.iter().map(|command| json!({"name": command.name})).collect())
}

fn query_status(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let state = session.machine.run_state();
    Ok(json!({"status": state.as_str(), "singlestep": false, "running": state.is_running()}))
}

fn query_name(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    Ok(session.machine.name().map_or_else(|| json!({}), |name| json!({"name": name})))
}

fn query_machines(_: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let machines = Machine::boards().iter().map(|board| {
        let mut info = json!({
            "hotpluggable-cpus": false,
            "name": board.name,
            "numa-mem-supported": false,
            "cpu-max": 1,
            "deprecated": false,
        });
        if let (Some(alias), Some(info)) = (board.aliases.first(), info.as_object_mut()) {
            info.insert("alias".to_owned(), json!(alias));
        }
        info
    });
    Ok(machines.collect())
}

fn query_memory_size_summary(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let plugged = session.machine.objects().plugged();
    Ok(json!({"base-memory": session.machine.ram_size(), "plugged-memory": plugged}))
}

fn query_memdev(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let memdevs = session.machine.objects().memdevs().into_iter().map(|memdev| {
        let spec = memdev.spec;
        json!({
            "share": spec.share,
            "reserve": spec.reserve,
            "prealloc": spec.prealloc,
            "host-nodes": spec.host_nodes,
            "size": spec.size,
            "merge": spec.merge,
            "dump": spec.dump,
            "policy": spec.policy.as_str(),
            "id": spec.id,
        })
    });
    Ok(memdevs.collect())
}

fn query_memory_devices(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let device = |dimm: DimmInfo| {
        let mut data = json!({
            "memdev": dimm.memdev,
            "hotplugged": dimm.hotplugged,
            "addr": dimm.addr,
            "hotpluggable": true,
            "size": dimm.size,
            "slot": dimm.slot,
            "node": dimm.node,
        });
        if let (Some(id), Some(data)) = (dimm.id, data.as_object_mut()) {
            data.insert("id".to_owned(), json!(id));
        }
        json!({"type": "dimm", "data": data})
    };
    Ok(session.machine.objects().devices().into_iter().map(device).collect())
}

fn qom_get(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let value = session.machine.qom_get(parameters.string("path"), parameters.string("property"))?;
    Ok(match value {
        QomValue::Unsigned(value) => json!(value),
        QomValue::Signed(value) => json!(value),
        QomValue::Text(text) => json!(text),
    })
}

fn qom_list(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let path = parameters.string("path");
    let none = || QomError::NoObject { path: path.to_owned() };
    let list = session.machine.qom_list(path).ok_or_else(none)?;
    Ok(list.into_iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect())
}

fn object_add(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    session.machine.objects().add(MemdevSpec::of(parameters.properties())?)?;
    Ok(json!({}))
}

fn object_del(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    session.machine.objects().remove(parameters.string("id"))?;
    Ok(json!({}))
}

fn device_add(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    session.machine.device_add(parameters.properties())?;
    Ok(json!({}))
}

fn device_del(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    session.machine.device_del(parameters.string("id"))?;
    Ok(json!({}))
}

fn dump_guest_memory(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let spec = DumpSpec {
        paging: parameters.boolean("paging"),
        protocol: parameters.string("protocol").to_owned(),
        detach: parameters.boolean("detach"),
        begin: parameters.integer("begin"),
        length: parameters.integer("length"),
        format: parameters.one_of("format", &DumpFormat::ALL, DumpFormat::as_str)?,
    };
    session.machine.dump(&spec)?;
    Ok(json!({}))
}

/// How far a dump is: `query-dump`, and part of `DUMP_COMPLETED`.
pub(super) fn dump_result(info: &DumpInfo) -> Value {
    json!({"total": info.total, "status": info.status.as_str(), "completed": info.completed})
}

fn query_dump(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    Ok(dump_result(&session.machine.dump_info()))
}

fn calc_dirty_rate(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let spec = DirtyRateSpec {
        calc_time: parameters.integer("calc-time").unwrap_or_default(),
        sample_pages: parameters.integer("sample-pages"),
        mode: parameters.one_of("mode", &DirtyRateMode::ALL, DirtyRateMode::as_str)?,
    };
    session.machine.calc_dirty_rate(&spec)?;
    Ok(json!({}))
}

fn query_dirty_rate(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    let info = session.machine.dirty_rate();
    let mut reply = Map::new();
    let mut member = |name: &str, value: Value| reply.insert(name.to_owned(), value);
    member("status", json!(info.status.as_str()));
    member("sample-pages", json!(info.sample_pages));
    if let Some(rate) = info.rate {
        member("dirty-rate", json!(rate));
    }
    member("mode", json!(info.mode.as_str()));
    member("start-time", json!(info.start.as_secs()));
    member("calc-time", json!(info.calc_time));
    Ok(Value::Object(reply))
}

fn query_ramblock(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    Ok(json!({"human-readable-text": ramblock_table(&session.machine)}))
}

fn query_roms(session: &mut QmpSession, _: &Parameters<'_>) -> Result<Value, QmpError> {
    Ok(json!({"human-readable-text": rom_table(&session.machine)}))
}

/// Only CPU 0 can be meant: the boards have one.
fn check_cpu(parameters: &Parameters<'_>) -> Result<(), QmpError> {
    match parameters.value("cpu-index") {
        Some(index) if index.as_i64() != Some(0) => {
            Err(QmpError::generic("Parameter 'cpu-index' expects a CPU number"))
        }
        _ => Ok(()),
    }
}

fn human_monitor_command(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    check_cpu(parameters)?;
    let mut text = Vec::new();
    session
        .hmp
        .execute(parameters.string("command-line"), &mut text)
        .map_err(|e| QmpError::Generic(e.to_string()))?;
    session.quit |= session.hmp.has_quit();
    // QEMU's monitor ends its lines like this wherever it writes to.
    Ok(json!(String::from_utf8_lossy(&text).replace('\n', "\r\n")))
}

fn save(
    session: &QmpSession,
    parameters: &Parameters<'_>,
    unreadable: Unreadable,
) -> Result<Value, QmpError> {
    let (addr, size) = (parameters.address("val"), parameters.size("size")?);
    guest::save(&session.machine, addr, size, parameters.string("filename"), unreadable)?;
    Ok(json!({}))
}

fn memsave(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    check_cpu(parameters)?;
    save(session, parameters, Unreadable::Refuse)
}

fn pmemsave(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    save(session, parameters, Unreadable::Zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(given: &Value) -> Result<(), String> {
        Parameters::check(SAVE, given.as_object()).map(|_| ()).map_err(|e| e.to_string())
    }

    #[test]
    fn parameters_are_checked_with_the_texts_of_qemu() {
        assert_eq!(checked(&json!({"val": -1, "size": 4, "filename": "a"})), Ok(()));
        for (given, reason) in [
            (json!({"val": 0, "size": 4}), "Parameter 'filename' is missing"),
            (
                json!({"val": "0", "size": 4, "filename": "a"}),
                "Invalid parameter type for 'val', expected: integer",
            ),
            (
                json!({"val": 1.5, "size": 4, "filename": "a"}),
                "Invalid parameter type for 'val', expected: integer",
            ),
            (
                json!({"val": 1, "size": 4, "filename": 7}),
                "Invalid parameter type for 'filename', expected: string",
            ),
            (json!({"val": 1, "size": 4, "filename": "a", "cpu": 5}), "Parameter 'cpu' is unexpected"),
        ] {
            assert_eq!(checked(&given), Err(reason.to_owned()));
        }
    }

    #[test]
    fn no_command_stands_twice_in_the_table() {
        for command in COMMANDS {
            assert_eq!(COMMANDS.iter().filter(|c| c.name == command.name).count(), 1, "{}", command.name);
        }
    }
}
