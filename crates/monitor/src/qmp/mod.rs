//! QMP: the JSON language in which programs drive a machine.
//!
//! [`QmpSession`] speaks it with one client: greeting, negotiation, commands, events. The commands are in [`commands`]. Replies and
//! error texts are QEMU 7.2's, spacing included. It is not a schema: there is no `query-qmp-schema`, and no capability is offered
//! (`oob` would promise that commands overtake each other).

pub mod commands;
mod frame;
mod json;
mod tracing;

use crate::events::Events;
use crate::hmp::{Hmp, HmpError};
use crate::session::{Session, Waker};
use commands::Parameters;
use flatview_board::{
    DirtyRateError, DumpError, Event, EventKind, Machine, ObjectError, QomError, RequestError,
};
use frame::{Framer, Piece};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::sync::Arc;
use thiserror::Error;

/// Why a command failed; `Display` is the `desc` of the reply.
#[derive(Debug, Error)]
pub enum QmpError {
    /// Class `CommandNotFound`.
    #[error("{0}")]
    CommandNotFound(String),
    /// Class `DeviceNotFound`.
    #[error("{0}")]
    DeviceNotFound(String),
    /// Class `GenericError`.
    #[error("{0}")]
    Generic(String),
}

impl QmpError {
    /// The `class` of the reply.
    pub fn class(&self) -> &'static str {
        match self {
            Self::CommandNotFound(_) => "CommandNotFound",
            Self::DeviceNotFound(_) => "DeviceNotFound",
            Self::Generic(_) => "GenericError",
        }
    }

    fn generic(text: impl Into<String>) -> Self {
        Self::Generic(text.into())
    }
}

impl From<HmpError> for QmpError {
    fn from(error: HmpError) -> Self {
        Self::Generic(error.to_string())
    }
}

impl From<ObjectError> for QmpError {
    fn from(error: ObjectError) -> Self {
        let text = error.to_string();
        if error.is_device_not_found() { Self::DeviceNotFound(text) } else { Self::Generic(text) }
    }
}

impl From<QomError> for QmpError {
    fn from(error: QomError) -> Self {
        let text = error.to_string();
        match error {
            QomError::NoObject { .. } => Self::DeviceNotFound(text),
            _ => Self::Generic(text),
        }
    }
}

impl From<DumpError> for QmpError {
    fn from(error: DumpError) -> Self {
        Self::Generic(error.to_string())
    }
}

impl From<DirtyRateError> for QmpError {
    fn from(error: DirtyRateError) -> Self {
        Self::Generic(error.to_string())
    }
}

impl From<RequestError> for QmpError {
    fn from(error: RequestError) -> Self {
        Self::Generic(error.to_string())
    }
}

/// One client of QMP.
#[derive(Debug)]
pub struct QmpSession {
    machine: Arc<Machine>,
    /// The monitor behind `human-monitor-command`.
    hmp: Hmp,
    framer: Framer,
    events: Events,
    negotiated: bool,
    quit: bool,
}

impl QmpSession {
    /// A session on `machine`, whose thread `waker` tells of events.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn new(machine: Arc<Machine>, waker: Waker) -> io::Result<Self> {
        let events = Events::new(&machine, waker, "qmp events")?;
        let hmp = Hmp::new(machine.clone());
        Ok(Self { machine, hmp, framer: Framer::default(), events, negotiated: false, quit: false })
    }

    /// Carries out one piece of input that should be a command; gives the reply.
    fn reply_to(&mut self, piece: Piece) -> Value {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Bad(reason) => {
                return error_reply(None, &QmpError::Generic(format!("JSON parse error, {reason}")));
            }
        };
        let value = match serde_json::from_str::<Value>(&text) {
            Ok(value) => value,
            Err(error) => {
                return error_reply(None, &QmpError::Generic(format!("JSON parse error, {error}")));
            }
        };
        let Value::Object(mut input) = value else {
            return error_reply(None, &QmpError::generic("QMP input must be a JSON object"));
        };
        let id = input.remove("id");
        match self.dispatch(&input) {
            Ok(value) => {
                let mut reply = Map::new();
                reply.insert("return".to_owned(), value);
                if let Some(id) = id {
                    reply.insert("id".to_owned(), id);
                }
                Value::Object(reply)
            }
            Err(error) => error_reply(id, &error),
        }
    }

    fn dispatch(&mut self, input: &Map<String, Value>) -> Result<Value, QmpError> {
        let mut name = None;
        let mut arguments = None;
        for (key, value) in input {
            match (key.as_str(), value) {
                ("execute", Value::String(text)) => name = Some(text),
                ("execute", _) => {
                    return Err(QmpError::generic("QMP input member 'execute' must be a string"));
                }
                ("arguments", Value::Object(object)) => arguments = Some(object),
                ("arguments", _) => {
                    return Err(QmpError::generic("QMP input member 'arguments' must be an object"));
                }
                (other, _) => {
                    return Err(QmpError::Generic(format!("QMP input member '{other}' is unexpected")));
                }
            }
        }
        let name = name.ok_or_else(|| QmpError::generic("QMP input lacks member 'execute'"))?;
        match (name.as_str(), self.negotiated) {
            ("qmp_capabilities", false) => {
                capabilities(arguments)?;
                self.negotiated = true;
                return Ok(json!({}));
            }
            ("qmp_capabilities", true) => {
                return Err(QmpError::CommandNotFound(
                    "Capabilities negotiation is already complete, command ignored".to_owned(),
                ));
            }
            (_, false) => {
                return Err(QmpError::CommandNotFound(
                    "Expecting capabilities negotiation with 'qmp_capabilities'".to_owned(),
                ));
            }
            _ => {}
        }
        let command = commands::find(name)
            .ok_or_else(|| QmpError::CommandNotFound(format!("The command {name} has not been found")))?;
        let parameters = Parameters::check(command.parameters, arguments)?;
        (command.run)(self, &parameters)
    }

    /// Sends the events that have happened; before the negotiation they are dropped, as in QEMU.
    fn send_events(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while let Some(event) = self.events.next() {
            if self.negotiated {
                json::write_line(out, &event_object(&event))?;
            }
        }
        Ok(())
    }
}

/// Checks the `enable` list of `qmp_capabilities`: there is nothing that could be enabled.
fn capabilities(arguments: Option<&Map<String, Value>>) -> Result<(), QmpError> {
    const PARAMETERS: &[commands::Parameter] =
        &[commands::Parameter { name: "enable", kind: commands::Kind::Array, optional: true }];
    let parameters = Parameters::check(PARAMETERS, arguments)?;
    match parameters.array("enable").and_then(|names| names.first()) {
        None => Ok(()),
        Some(Value::String(name)) if name == "oob" => {
            Err(QmpError::generic("Capability oob is not available"))
        }
        Some(other) => {
            let name = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            Err(QmpError::Generic(format!("Parameter 'enable[0]' does not accept value '{name}'")))
        }
    }
}

fn error_reply(id: Option<Value>, error: &QmpError) -> Value {
    let mut reply = Map::new();
    if let Some(id) = id {
        reply.insert("id".to_owned(), id);
    }
    reply.insert("error".to_owned(), json!({"class": error.class(), "desc": error.to_string()}));
    Value::Object(reply)
}

fn event_object(event: &Event) -> Value {
    let mut object = Map::new();
    object.insert(
        "timestamp".to_owned(),
        json!({"seconds": event.seconds, "microseconds": event.microseconds}),
    );
    object.insert("event".to_owned(), json!(event.kind.name()));
    match &event.kind {
        EventKind::Reset { cause } | EventKind::Shutdown { cause } => {
            object.insert("data".to_owned(), json!({"guest": cause.is_guest(), "reason": cause.as_str()}));
        }
        EventKind::DeviceDeleted { device, path } => {
            let mut data = Map::new();
            if let Some(device) = device {
                data.insert("device".to_owned(), json!(&**device));
            }
            data.insert("path".to_owned(), json!(&**path));
            object.insert("data".to_owned(), Value::Object(data));
        }
        EventKind::DumpCompleted { info, error } => {
            let mut data = Map::new();
            data.insert("result".to_owned(), commands::dump_result(info));
            if let Some(error) = error {
                data.insert("error".to_owned(), json!(&**error));
            }
            object.insert("data".to_owned(), Value::Object(data));
        }
        EventKind::Stop | EventKind::Resume | EventKind::Powerdown => {}
    }
    Value::Object(object)
}

impl Session for QmpSession {
    fn opened(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.framer = Framer::default();
        self.negotiated = false;
        // What happened before this client came is not for it.
        while self.events.next().is_some() {}
        json::write_line(out, &json!({"QMP": {"version": commands::version(), "capabilities": []}}))
    }

    fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        for piece in self.framer.push(bytes) {
            if self.quit {
                break;
            }
            let reply = self.reply_to(piece);
            self.send_events(out)?;
            json::write_line(out, &reply)?;
        }
        Ok(())
    }

    fn woken(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.send_events(out)
    }

    fn closed(&mut self) {
        self.negotiated = false;
    }
}

#[cfg(test)]
mod tests;
