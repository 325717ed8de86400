//! Where the kernel is called, and where it writes.
//!
//! UNSAFE: the modules below hand host addresses to the kernel, map a page that it writes, and look into what it wrote.
//! Nothing outside of them does.
//!
//! What must hold:
//! - **K1** whenever the kernel has a memory slot of ours, [`Slots`] has its [`Part`](crate::part::Part), whose `Arc` keeps
//!   the [`RamBlock`](flatview::RamBlock), and a block's bytes stay mapped at one address while it lives; nobody makes a
//!   plain reference to them (B1 of the library's RAM). Whoever cannot delete a slot keeps the part for ever.
//! - **K2** the ring of collected writes is one page that stays mapped while the [`Ring`] lives, is read and written by
//!   atomics only, and what the kernel writes there is checked before it is used.
//! - **K3** what a vCPU's `kvm_run` says after `KVM_RUN` is looked at while that vCPU is borrowed mutably.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
pub(crate) mod host;
pub(crate) mod ring;
pub(crate) mod slots;

pub(crate) use ring::Ring;
pub(crate) use slots::{Slot, Slots};
