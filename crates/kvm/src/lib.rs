//! A Flatview memory in KVM's hands.
//!
//! What it is: a [listener](flatview::MemoryListener) that keeps KVM's memory slots, read-only slots, ioeventfds, collected
//! ranges and dirty log equal to the flat view of a space, changing only what differs, and the way from a vCPU's exits
//! back to the flat view. What it is not: a virtual machine monitor; it creates no vCPUs, and has no run loop.
//!
//! ```
//! # #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use flatview::{Endianness, Memory, RamBlock, Region};
//! use flatview_kvm::KvmMemory;
//!
//! # if kvm_ioctls::Kvm::new().is_err() { return Ok(()) }
//! let memory = Memory::new(Endianness::Little);
//! let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
//! memory.map(memory.system(), 0, ram)?;
//!
//! let vm = Arc::new(kvm_ioctls::Kvm::new()?.create_vm()?);
//! let kvm = KvmMemory::new(vm.clone(), &memory)?;
//! assert_eq!(kvm.slots().len(), 1);
//!
//! // Every change of the map is one of the slots: a window in the middle makes three of one.
//! let rom = memory.add(Region::rom("rom", RamBlock::anonymous("rom", 0x1_0000)?))?;
//! memory.update(|t| t.map_overlap(memory.system(), 0x8_0000, rom, 1))?;
//! let slots = kvm.slots();
//! let shown: Vec<_> = slots.iter().map(|s| (s.addr, s.size, s.readonly)).collect();
//! assert_eq!(shown, [(0, 0x8_0000, false), (0x8_0000, 0x1_0000, true), (0x9_0000, 0x7_0000, false)]);
//! # Ok(())
//! # }
//! # #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
//! # fn main() {}
//! ```
//!
//! Where things are:
//! - [`KvmMemory`], [`KvmBuilder`]: giving a memory to a VM, and taking it back; [`SlotInfo`];
//! - [`KvmBus`]: what a vCPU's thread does with its exits; [`VcpuGate`], [`RunGate`]: keeping vCPUs out while slots are
//!   replaced;
//! - [`VmIoctls`]: what is asked of KVM, and `testing::FakeVm` (feature `testing`), which answers as KVM does where there
//!   is none.
#![cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
    )),
    expect(dead_code, reason = "what only vCPUs use, of which this host has none")
)]

mod accel;
mod bus;
mod drain;
mod error;
mod eventfds;
mod gate;
mod ioctls;
mod part;
mod side;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod zones;

pub use accel::{KvmBuilder, KvmMemory, SlotInfo};
pub use bus::{KvmBus, Served};
pub use error::KvmError;
pub use gate::{RunGate, VcpuGate};
pub use ioctls::{Capability, IoEventFdRequest, SlotRequest, VmIoctls, Zone};
