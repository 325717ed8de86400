//! KVM as it is on this host.
//!
//! UNSAFE: makes system calls that take addresses, and reads unions that the kernel wrote.
#![expect(unsafe_code, reason = "system calls that take addresses")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY, KVMIO, kvm_clear_dirty_log, kvm_clear_dirty_log__bindgen_ty_1, kvm_enable_cap,
    kvm_ioeventfd, kvm_ioeventfd_flag_nr_datamatch, kvm_ioeventfd_flag_nr_deassign,
    kvm_ioeventfd_flag_nr_pio, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, VcpuExit, VcpuFd, VmFd};
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

use super::Ring;
use crate::ioctls::{Capability, IoEventFdRequest, SlotRequest, VmIoctls, Zone};

const IOEVENTFD: Opcode = opcode::write::<kvm_ioeventfd>(KVMIO as u8, 0x79);
const CLEAR_DIRTY_LOG: Opcode = opcode::read_write::<kvm_clear_dirty_log>(KVMIO as u8, 0xc0);

fn given(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn fd_of(vm: &VmFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open while `vm` is, which is borrowed as long.
    unsafe { BorrowedFd::borrow_raw(vm.as_raw_fd()) }
}

impl VmIoctls for VmFd {
    fn check_extension(&self, capability: Capability) -> u32 {
        u32::try_from(self.check_extension_raw((capability as u32).into())).unwrap_or(0)
    }

    fn page_size(&self) -> u64 {
        rustix::param::page_size() as u64
    }

    unsafe fn set_user_memory_region(&self, request: &SlotRequest) -> io::Result<()> {
        let flags = [(request.readonly, KVM_MEM_READONLY), (request.log, KVM_MEM_LOG_DIRTY_PAGES)];
        let region = kvm_userspace_memory_region {
            slot: request.slot,
            flags: flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag),
            guest_phys_addr: request.guest_addr,
            memory_size: request.size,
            userspace_addr: request.host_addr,
        };
        // SAFETY: the caller vouches for the memory; the kernel refuses overlaps.
        unsafe { VmFd::set_user_memory_region(self, region).map_err(given) }
    }

    fn get_dirty_log(&self, slot: u32, pages: u64) -> io::Result<Vec<u64>> {
        let bytes = pages.checked_mul(VmIoctls::page_size(self)).and_then(|n| usize::try_from(n).ok());
        VmFd::get_dirty_log(self, slot, bytes.ok_or(rustix::io::Errno::INVAL)?).map_err(given)
    }

    fn clear_dirty_log(&self, slot: u32, first_page: u64, pages: u32, bits: &[u64]) -> io::Result<()> {
        if (bits.len() as u64) < u64::from(pages).div_ceil(64) {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let dirty_bitmap = bits.as_ptr().cast_mut().cast();
        let mut request = kvm_clear_dirty_log {
            slot,
            num_pages: pages,
            first_page,
            __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 { dirty_bitmap },
        };
        // SAFETY: the kernel's structure for this request, in which it reads the bitmap: a bit for each page, and as
        // many are there, as was just looked at.
        unsafe { ioctl(fd_of(self), Updater::<CLEAR_DIRTY_LOG, _>::new(&mut request))? };
        Ok(())
    }

    fn enable_manual_dirty_log(&self) -> io::Result<()> {
        // Not KVM_DIRTY_LOG_INITIALLY_SET: a log that begins would say that all pages were written.
        let args = [u64::from(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), 0, 0, 0];
        let cap = kvm_enable_cap { cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, args, ..Default::default() };
        self.enable_cap(&cap).map_err(given)
    }

    fn ioeventfd(&self, request: &IoEventFdRequest<'_>, assign: bool) -> io::Result<()> {
        let flags = [
            (request.data.is_some(), kvm_ioeventfd_flag_nr_datamatch),
            (request.pio, kvm_ioeventfd_flag_nr_pio),
            (!assign, kvm_ioeventfd_flag_nr_deassign),
        ];
        let eventfd = kvm_ioeventfd {
            datamatch: request.data.unwrap_or(0),
            addr: request.addr,
            len: request.size,
            fd: request.fd.as_raw_fd(),
            flags: flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | 1 << bit),
            ..Default::default()
        };
        // SAFETY: the kernel's structure for this request, which it only reads.
        unsafe { ioctl(fd_of(self), Setter::<IOEVENTFD, _>::new(eventfd))? };
        Ok(())
    }

    fn coalesced(&self, zone: Zone, register: bool) -> io::Result<()> {
        let addr = if zone.pio { IoEventAddress::Pio(zone.addr) } else { IoEventAddress::Mmio(zone.addr) };
        match register {
            true => self.register_coalesced_mmio(addr, zone.size),
            false => self.unregister_coalesced_mmio(addr, zone.size),
        }
        .map_err(given)
    }
}

/// The ring of collected writes, which is at this page of any of the VM's vCPUs.
pub(crate) fn ring(vcpu: &VcpuFd, page: u32) -> io::Result<Ring> {
    // SAFETY: the descriptor is open while `vcpu` is, which is borrowed as long.
    let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
    Ring::map(fd, u64::from(page) * rustix::param::page_size() as u64)
}

/// Why a vCPU came out of the guest, as far as memory and ports go.
pub(crate) enum Exit<'a> {
    MmioRead(u64, &'a mut [u8]),
    MmioWrite(u64, &'a [u8]),
    /// Port, the size of each access, and the bytes of all.
    In(u16, usize, &'a mut [u8]),
    Out(u16, usize, &'a [u8]),
    /// Something else, by KVM's number for it.
    Other(u32),
}

/// Runs the vCPU until it comes out.
pub(crate) fn run(vcpu: &mut VcpuFd) -> Result<Exit<'_>, kvm_ioctls::Error> {
    enum Told {
        MmioRead(u64),
        MmioWrite(u64),
        In(u16),
        Out(u16),
    }
    // What kvm-ioctls tells is borrowed from the vCPU, and does not have the size of each of several port accesses.
    let (told, data, len) = match vcpu.run()? {
        VcpuExit::MmioRead(addr, data) => (Some(Told::MmioRead(addr)), data.as_mut_ptr(), data.len()),
        VcpuExit::MmioWrite(addr, data) => {
            (Some(Told::MmioWrite(addr)), data.as_ptr().cast_mut(), data.len())
        }
        VcpuExit::IoIn(port, data) => (Some(Told::In(port)), data.as_mut_ptr(), data.len()),
        VcpuExit::IoOut(port, data) => (Some(Told::Out(port)), data.as_ptr().cast_mut(), data.len()),
        _ => (None, std::ptr::NonNull::dangling().as_ptr(), 0),
    };
    let kvm_run = vcpu.get_kvm_run();
    let reason = kvm_run.exit_reason;
    // SAFETY: K3: any bytes are a number; it is used only where the kernel says that it wrote this member.
    let size = usize::from(unsafe { kvm_run.__bindgen_anon_1.io.size }).max(1);
    // SAFETY: K3: the bytes are those that kvm-ioctls lent out of the vCPU's mapping, which lasts while the vCPU does;
    // it is borrowed mutably for as long as the result, so nobody else has them, and the guest is not running.
    let bytes = unsafe { std::slice::from_raw_parts_mut(data, len) };
    Ok(match told {
        Some(Told::MmioRead(addr)) => Exit::MmioRead(addr, bytes),
        Some(Told::MmioWrite(addr)) => Exit::MmioWrite(addr, bytes),
        Some(Told::In(port)) => Exit::In(port, size, bytes),
        Some(Told::Out(port)) => Exit::Out(port, size, bytes),
        None => Exit::Other(reason),
    })
}
