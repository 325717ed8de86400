//! From a vCPU's exits to memory and devices.
//!
//! What it is: what the guest did that KVM could not do by itself, done on the flat view by the rules of the bus. What it is
//! not: a run loop.

use std::fmt;
use std::sync::Arc;

use flatview::{MemTxAttrs, MemTxError, Reader};

use crate::VcpuGate;

/// One vCPU thread's way from its exits to the flat view.
///
/// Each thread has its own, from [`KvmMemory::bus`](crate::KvmMemory::bus). The methods carry out an access as QEMU does
/// for KVM: by the rules of the bus, in as many pieces as those who answer need. What fails reads as 0; the error tells why,
/// and the guest goes on whether or not anybody looks at it.
pub struct KvmBus {
    pub(crate) memory: Reader,
    pub(crate) io: Option<Reader>,
    pub(crate) attrs: MemTxAttrs,
    pub(crate) gate: Option<Arc<dyn VcpuGate>>,
}

impl fmt::Debug for KvmBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvmBus({:?}, {:?})", self.memory, self.io)
    }
}

/// What became of a vCPU's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It came out for an access, which was carried out; run it again. The error, if any, is for logs.
    Access(Result<(), MemTxError>),
    /// It came out for another reason, by KVM's number (`KVM_EXIT_HLT` and so on, see `kvm_bindings`); more is in
    /// `VcpuFd::get_kvm_run`.
    Exit(u32),
}

impl KvmBus {
    /// With these attributes, for example secure ones while a vCPU is in system management mode.
    #[must_use]
    pub fn with_attrs(self, attrs: MemTxAttrs) -> Self {
        Self { attrs, ..self }
    }

    /// A read of memory (`KVM_EXIT_MMIO`): `data` is what the guest gets.
    ///
    /// # Errors
    /// [`MemTxError`]: nothing answers there, or who does refuses.
    pub fn mmio_read(&self, addr: u64, data: &mut [u8]) -> Result<(), MemTxError> {
        self.memory.port(self.attrs).read(addr, data)
    }

    /// A write to memory (`KVM_EXIT_MMIO`): to a device, to RAM that is not in whole pages, to a ROM device, or to ROM,
    /// which is an error as on the bus.
    ///
    /// # Errors
    /// As [`mmio_read`](Self::mmio_read).
    pub fn mmio_write(&self, addr: u64, data: &[u8]) -> Result<(), MemTxError> {
        self.memory.port(self.attrs).write(addr, data)
    }

    /// Reads of a port (`KVM_EXIT_IO`): as many of `size` bytes as fit in `data`, as of a string instruction. Without an I/O
    /// space all bits are set.
    ///
    /// # Errors
    /// [`MemTxError`] of the first that failed; all are tried.
    pub fn pio_in(&self, port: u16, size: usize, data: &mut [u8]) -> Result<(), MemTxError> {
        let Some(io) = &self.io else {
            data.fill(0xff);
            return Ok(());
        };
        let io = io.port(self.attrs);
        let each = data.chunks_mut(size.max(1)).map(|piece| io.read(port.into(), piece));
        each.fold(Ok(()), Result::and)
    }

    /// Writes to a port (`KVM_EXIT_IO`): each `size` bytes. Without an I/O space they are dropped.
    ///
    /// # Errors
    /// [`MemTxError`] of the first that failed; all are tried.
    pub fn pio_out(&self, port: u16, size: usize, data: &[u8]) -> Result<(), MemTxError> {
        let Some(io) = &self.io else { return Ok(()) };
        let io = io.port(self.attrs);
        data.chunks(size.max(1)).map(|piece| io.write(port.into(), piece)).fold(Ok(()), Result::and)
    }

    /// Lets go of the views it looks at; see [`Reader::park`]. To be called before the thread blocks for long: in the guest
    /// it holds nothing up, a view that another one replaced is only freed later.
    pub fn park(&mut self) {
        self.memory.park();
        self.io.iter_mut().for_each(Reader::park);
    }
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
impl KvmBus {
    /// Runs the vCPU once, and carries out the access for which it came out, if it was one. Goes into the guest through the
    /// [gate](VcpuGate), if there is one.
    ///
    /// # Errors
    /// KVM's: `EINTR` if a signal came, for example.
    pub fn run(&self, vcpu: &mut kvm_ioctls::VcpuFd) -> Result<Served, kvm_ioctls::Error> {
        use crate::sys::host::{Exit, run};
        if let Some(gate) = &self.gate {
            gate.enter();
        }
        let exit = run(vcpu);
        // Before the access: a device may change the map, and then it is this thread that pauses the others.
        if let Some(gate) = &self.gate {
            gate.leave();
        }
        Ok(match exit? {
            Exit::MmioRead(addr, data) => Served::Access(self.mmio_read(addr, data)),
            Exit::MmioWrite(addr, data) => Served::Access(self.mmio_write(addr, data)),
            Exit::In(port, size, data) => Served::Access(self.pio_in(port, size, data)),
            Exit::Out(port, size, data) => Served::Access(self.pio_out(port, size, data)),
            Exit::Other(reason) => Served::Exit(reason),
        })
    }
}
