//! PCI: functions with their configuration space, and the host bridge of the PReP machines.

pub mod function;
pub mod raven;
