//! Devices that are of no common kind.

pub mod mips_qemu;
