//! Whom Flatview is compared with.
//!
//! vm-memory is measured itself. Of the buses of crosvm, cloud-hypervisor and openvmm only the way to the device is
//! measured, written here from their description: which locks are taken, what is looked up and how, which reference
//! counts move. None of it is their code.

pub mod cloud_hypervisor;
pub mod crosvm;
pub mod openvmm;
pub mod raw;
pub mod table;
pub mod vm_memory;
