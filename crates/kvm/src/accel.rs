//! A memory in KVM's hands.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use flatview::{ListenerId, MemTxAttrs, Memory, RamBlock, SpaceId};

use crate::bus::KvmBus;
use crate::drain::Drain;
use crate::error::KvmError;
use crate::gate::VcpuGate;
use crate::ioctls::{Capability, VmIoctls};
use crate::part::Shape;
use crate::side::{Side, Terms};

/// Slots of a kernel that does not tell how many it has.
const SLOTS_AT_LEAST: u32 = 32;

/// How a memory is given to KVM; from [`KvmMemory::builder`].
#[must_use]
pub struct KvmBuilder {
    vm: Arc<dyn VmIoctls>,
    memory: Memory,
    space: SpaceId,
    io: Option<SpaceId>,
    gate: Option<Arc<dyn VcpuGate>>,
    slots: Option<Range<u32>>,
    address_space: u16,
}

impl fmt::Debug for KvmBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("KvmBuilder");
        s.field("space", &self.space).field("io", &self.io).finish_non_exhaustive()
    }
}

impl KvmBuilder {
    /// The space of ports: [ioeventfds](flatview::Transaction::add_eventfd) and collected ranges of it are the kernel's too,
    /// and [`KvmBus`] finds ports there.
    pub fn io(self, space: SpaceId) -> Self {
        Self { io: Some(space), ..self }
    }

    /// Who keeps vCPUs out of the guest while slots are replaced. Without one that is up to the caller; see
    /// [`VcpuGate`], and [`RunGate`](crate::RunGate).
    pub fn gate(self, gate: Arc<dyn VcpuGate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// The numbers that slots may have, if others of the VM are not to be touched. Without this all that KVM has.
    pub fn slots(self, numbers: Range<u32>) -> Self {
        Self { slots: Some(numbers), ..self }
    }

    /// KVM's address space for the slots: 0, or 1 for what x86 vCPUs see in system management mode. Ioeventfds, collected
    /// ranges and the hooks of the memory belong to number 0 only.
    pub fn address_space(self, number: u16) -> Self {
        Self { address_space: number, ..self }
    }

    fn terms(&self) -> Result<Terms, KvmError> {
        let ask = |capability| self.vm.check_extension(capability);
        let has = |capability| ask(capability) > 0;
        let spaces = ask(Capability::MultiAddressSpace).max(1);
        if u32::from(self.address_space) >= spaces {
            return Err(KvmError::NoAddressSpace { wanted: self.address_space, have: spaces });
        }
        let have = match ask(Capability::NrMemslots) {
            0 => SLOTS_AT_LEAST,
            n => n.min(1 << 16),
        };
        let wanted = self.slots.clone().unwrap_or(0..have);
        if wanted.start >= have {
            return Err(KvmError::NoSlots { first: wanted.start, last: have - 1 });
        }
        let first = self.address_space == 0;
        Ok(Terms {
            shape: Shape {
                page: self.vm.page_size(),
                max_pages: self.vm.max_slot_pages(),
                readonly: has(Capability::ReadonlyMem),
            },
            address_space: self.address_space,
            numbers: wanted.start..wanted.end.min(have),
            // A kernel that cannot clears the log whenever it is read.
            manual: ask(Capability::ManualDirtyLogProtect2) & 1 != 0
                && self.vm.enable_manual_dirty_log().is_ok(),
            eventfds: first && has(Capability::Ioeventfd),
            any_length: has(Capability::IoeventfdAnyLength),
            coalesced: first && has(Capability::CoalescedMmio),
        })
    }

    /// Gives the memory to KVM: makes the slots and all else of what is there, and follows from now on.
    ///
    /// # Errors
    /// [`KvmError::Memory`] with the listener's reason if KVM does not take it: nothing of it is left then.
    /// [`KvmError::NoAddressSpace`], [`KvmError::NoSlots`].
    pub fn build(self) -> Result<KvmMemory, KvmError> {
        let terms = self.terms()?;
        let ports = Terms {
            numbers: 0..0,
            coalesced: terms.coalesced && self.vm.check_extension(Capability::CoalescedPio) > 0,
            ..terms.clone()
        };
        let (eventfds, first) = (terms.eventfds, terms.address_space == 0);
        let space = self.memory.space(self.space)?;
        let side = Arc::new(Side::new(&self.vm, &space, false, terms, self.gate.clone()));
        let ports_space = self.io.map(|io| self.memory.space(io)).transpose()?;
        let io =
            ports_space.filter(|_| first).map(|io| Arc::new(Side::new(&self.vm, &io, true, ports, None)));
        let mut kvm = KvmMemory {
            vm: self.vm,
            memory: self.memory,
            space: self.space,
            io_space: self.io,
            gate: self.gate,
            side,
            io,
            listeners: Vec::new(),
            drain: Arc::new(Drain::default()),
            hooked: false,
        };
        // Dropping it takes back what was done.
        kvm.listeners.push(kvm.memory.add_listener(kvm.side.clone())?);
        if let Some(io) = &kvm.io {
            kvm.listeners.push(kvm.memory.add_listener(io.clone())?);
        }
        if first {
            kvm.memory.set_kernel_eventfds(eventfds);
            let drain = Arc::downgrade(&kvm.drain);
            kvm.memory.set_coalesced_flush(Some(Arc::new(move || {
                if let Some(drain) = drain.upgrade() {
                    drain.flush();
                }
            })));
            kvm.hooked = true;
        }
        Ok(kvm)
    }
}

/// A memory in KVM's hands: while this lives, KVM's memory slots, read-only slots, ioeventfds, collected ranges and dirty log
/// are what the flat view of a space says.
///
/// It is a [listener](flatview::MemoryListener) of that space, `kvm-memory`, with the priority of accelerators, and one of
/// the ports' space, `kvm-io`. Dropping it, or [`detach`](Self::detach), takes everything back from KVM. It keeps the
/// [`Memory`]; a memory has one of these at a time (and one more for system management mode).
///
/// - **Slots** are the whole pages of RAM, ROM and ROM devices, where guest and host addresses are aligned alike; what is
///   left over is reached through MMIO exits. Each commit changes only what differs, all or nothing.
/// - **The dirty log** goes into the one dirty mechanism of the library: whoever takes dirty bits there has what vCPUs
///   wrote.
/// - **Exits** go through a [`KvmBus`], one for each vCPU thread.
pub struct KvmMemory {
    vm: Arc<dyn VmIoctls>,
    memory: Memory,
    space: SpaceId,
    io_space: Option<SpaceId>,
    gate: Option<Arc<dyn VcpuGate>>,
    side: Arc<Side>,
    io: Option<Arc<Side>>,
    listeners: Vec<ListenerId>,
    drain: Arc<Drain>,
    /// Whether the memory's hooks are ours.
    hooked: bool,
}

impl fmt::Debug for KvmMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmMemory").field("slots", &self.slots().len()).finish_non_exhaustive()
    }
}

/// A slot that KVM has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SlotInfo {
    /// Its number, with the address space in the upper 16 bits.
    pub number: u32,
    /// The first guest physical address.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The memory behind it.
    pub block: Arc<RamBlock>,
    /// The offset in the block of the first byte.
    pub offset: u64,
    /// Whether writes by the guest come out as MMIO.
    pub readonly: bool,
    /// Whether writes by the guest are logged.
    pub log: bool,
    /// The region's name.
    pub name: Arc<str>,
}

impl KvmMemory {
    /// To give `space` of `memory` to a VM: for KVM itself a `kvm_ioctls::VmFd`.
    pub fn builder(vm: Arc<impl VmIoctls + 'static>, memory: &Memory, space: SpaceId) -> KvmBuilder {
        let memory = memory.clone();
        KvmBuilder { vm, memory, space, io: None, gate: None, slots: None, address_space: 0 }
    }

    /// Gives the memory and I/O spaces that every [`Memory`] has, unless it is a bare one, to a VM.
    ///
    /// # Errors
    /// As [`KvmBuilder::build`].
    pub fn new(vm: Arc<impl VmIoctls + 'static>, memory: &Memory) -> Result<Self, KvmError> {
        Self::builder(vm, memory, memory.memory_space().id()).io(memory.io_space().id()).build()
    }

    /// The slots that KVM has, in the order of their addresses.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.side.with_slots(|slots| {
            let info = |slot: &crate::sys::Slot| SlotInfo {
                number: slots.kernel_number(slot),
                addr: slot.part.addr,
                size: slot.part.size,
                block: Arc::clone(&slot.part.block),
                offset: slot.part.offset,
                readonly: slot.part.readonly,
                log: slot.part.log,
                name: Arc::clone(&slot.part.name),
            };
            slots.iter().map(info).collect()
        })
    }

    /// Whether a slot is exactly this range of a space, as `info mtree -f` asks to print ` KVM` behind it (QEMU:
    /// `has_memory` of the accelerator). For [`mtree::write_accelerated`](flatview::mtree::write_accelerated).
    #[must_use]
    pub fn has_memory(&self, space: SpaceId, start: u64, size: u128) -> bool {
        let same =
            |slots: &crate::sys::Slots| slots.get(start).is_some_and(|s| u128::from(s.part.size) == size);
        space == self.space && self.side.with_slots(same)
    }

    /// The ioeventfds that KVM has: whether it is a port, the address, the size (0 for any) and what is matched, as the
    /// host reads it; memory first, in ascending order.
    #[must_use]
    pub fn eventfds(&self) -> Vec<(bool, u64, u32, Option<u64>)> {
        let of = |side: &Side, pio| side.eventfds().into_iter().map(move |(a, s, d, _)| (pio, a, s, d));
        let ports = self.io.iter().flat_map(|io| of(io, true).collect::<Vec<_>>());
        of(&self.side, false).chain(ports).collect()
    }

    /// The ranges in which KVM collects writes: whether they are ports, the first address and the number of bytes; memory
    /// first, in ascending order.
    #[must_use]
    pub fn collected(&self) -> Vec<(bool, u64, u32)> {
        let of = |side: &Side, pio| side.zones().into_iter().map(move |(addr, size)| (pio, addr, size));
        let ports = self.io.iter().flat_map(|io| of(io, true).collect::<Vec<_>>());
        of(&self.side, false).chain(ports).collect()
    }

    /// What a vCPU's thread needs to carry out its exits: one for each thread.
    ///
    /// # Errors
    /// [`KvmError::Memory`] if the space was removed.
    pub fn bus(&self) -> Result<KvmBus, KvmError> {
        let io = self.io_space.map(|io| self.memory.space(io)).transpose()?;
        Ok(KvmBus {
            memory: self.memory.space(self.space)?.reader(),
            io: io.map(|io| io.reader()),
            attrs: MemTxAttrs::UNSPECIFIED,
            gate: self.gate.clone(),
        })
    }

    /// Carries out what KVM collected. The memory does that by itself before an access to a region that wants it, and
    /// before each change; a display does it before it looks (QEMU: `qemu_flush_coalesced_mmio_buffer`).
    pub fn flush(&self) {
        self.drain.flush();
    }

    /// Has KVM collect writes from now on, and empties the ring in which it does.
    #[cfg(any(
        feature = "testing",
        all(
            target_os = "linux",
            any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
        )
    ))]
    pub(crate) fn use_ring(&self, ring: crate::sys::Ring) -> Result<(), KvmError> {
        let KvmBus { memory, io, .. } = self.bus()?;
        if !self.drain.begin(ring, memory, io) {
            return Ok(());
        }
        let sides = std::iter::once(&self.side).chain(&self.io);
        for side in sides {
            side.activate_zones().map_err(|e| KvmError::Ring(std::io::Error::other(e)))?;
        }
        Ok(())
    }

    /// Takes the memory from KVM: all slots, ioeventfds and collected ranges.
    ///
    /// # Errors
    /// [`KvmError::Memory`] inside a change of the map: there it cannot be. [`KvmError::Leftover`] if KVM keeps something.
    /// Whatever happens, it is followed no more.
    pub fn detach(mut self) -> Result<(), KvmError> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), KvmError> {
        let mut result = Ok(());
        for id in self.listeners.drain(..).rev() {
            result = result.and(self.memory.remove_listener(id).map_err(KvmError::from));
        }
        // What the callbacks left, if they could not be called or failed.
        for side in self.io.iter().chain([&self.side]) {
            let closed = side.close();
            // A slot that a callback could not delete, and this could, is gone all the same.
            result = if closed.is_ok() && matches!(result, Err(KvmError::Memory(ref e)) if is_settled(e)) {
                Ok(())
            } else {
                result.and(closed)
            };
        }
        if std::mem::take(&mut self.hooked) {
            self.drain.flush();
            self.memory.set_coalesced_flush(None);
            self.memory.set_kernel_eventfds(false);
        }
        result
    }
}

/// Whether an error of a listener that was removed is over once everything was taken back.
fn is_settled(error: &flatview::MemoryError) -> bool {
    matches!(error, flatview::MemoryError::ListenerFailed { .. })
}

impl Drop for KvmMemory {
    fn drop(&mut self) {
        // There is nobody to tell; what KVM keeps stays mapped (K1).
        let _ = self.take_back();
    }
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
impl KvmMemory {
    /// Lets KVM collect writes to [coalesced ranges](flatview::Transaction::add_coalescing): before this each of them comes
    /// out as an exit. `vcpu` is any of the VM's; the ring in which they are collected is the same for all.
    ///
    /// # Errors
    /// [`KvmError::NoCoalescing`], [`KvmError::Ring`].
    pub fn collect_writes(&self, vcpu: &kvm_ioctls::VcpuFd) -> Result<(), KvmError> {
        match self.vm.check_extension(Capability::CoalescedMmio) {
            0 => Err(KvmError::NoCoalescing),
            page => self.use_ring(crate::sys::host::ring(vcpu, page).map_err(KvmError::Ring)?),
        }
    }
}
