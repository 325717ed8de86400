//! `trace-event-get-state` and `trace-event-set-state`.

use super::commands::{Kind, Parameter, Parameters, needed, optional};
use super::{QmpError, QmpSession};
use crate::tracing::{self, TracingError};
use serde_json::{Value, json};

impl From<TracingError> for QmpError {
    fn from(error: TracingError) -> Self {
        Self::Generic(error.to_string())
    }
}

pub(super) const GET: &[Parameter] = &[needed("name", Kind::String), optional("vcpu", Kind::Integer)];

pub(super) const SET: &[Parameter] = &[
    needed("name", Kind::String),
    needed("enable", Kind::Boolean),
    optional("ignore-unavailable", Kind::Boolean),
    optional("vcpu", Kind::Integer),
];

pub(super) fn get(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let events = tracing::events(&session.machine, parameters.string("name"), parameters.integer("vcpu"))?;
    let on = session.machine.log().events();
    let state = |event| if on.is_on(event) { "enabled" } else { "disabled" };
    Ok(events
        .into_iter()
        .map(|event| json!({"name": event.name(), "vcpu": false, "state": state(event)}))
        .collect())
}

pub(super) fn set(session: &mut QmpSession, parameters: &Parameters<'_>) -> Result<Value, QmpError> {
    let (name, on) = (parameters.string("name"), parameters.boolean("enable"));
    tracing::set(&session.machine, name, on, parameters.integer("vcpu"))?;
    Ok(json!({}))
}
