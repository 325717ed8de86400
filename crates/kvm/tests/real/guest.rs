//! A VM with one vCPU, if this host has KVM.

use std::sync::Arc;

use flatview::{MemTxError, Memory};
use flatview_kvm::{KvmBus, KvmMemory, Served};
use kvm_bindings::KVM_EXIT_HLT;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

/// KVM, or why a test is skipped.
pub fn vm() -> Option<Arc<VmFd>> {
    match Kvm::new().and_then(|kvm| kvm.create_vm()) {
        Ok(vm) => {
            // Intel processors that cannot run real mode by themselves need three pages somewhere.
            vm.set_tss_address(0xfffb_d000).unwrap();
            Some(Arc::new(vm))
        }
        Err(error) => {
            assert!(std::env::var_os("FLATVIEW_REQUIRE_KVM").is_none(), "/dev/kvm: {error}");
            println!("skipped: no KVM here: /dev/kvm: {error}");
            None
        }
    }
}

pub struct Guest {
    pub kvm: KvmMemory,
    pub bus: KvmBus,
    pub vcpu: VcpuFd,
}

impl Guest {
    pub fn new(vm: &Arc<VmFd>, memory: &Memory) -> Self {
        let kvm = KvmMemory::new(Arc::clone(vm), memory).unwrap();
        let (bus, vcpu) = (kvm.bus().unwrap(), vm.create_vcpu(0).unwrap());
        Self { kvm, bus, vcpu }
    }

    /// The vCPU begins at this address, below 64 KiB, in real mode with all segments at 0.
    pub fn start_real_mode(&mut self, ip: u64) {
        let mut sregs = self.vcpu.get_sregs().unwrap();
        for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
            (segment.base, segment.selector) = (0, 0);
        }
        self.vcpu.set_sregs(&sregs).unwrap();
        let mut regs = self.vcpu.get_regs().unwrap();
        (regs.rip, regs.rflags) = (ip, 2);
        self.vcpu.set_regs(&regs).unwrap();
    }

    /// The vCPU is in protected mode, with segments that reach over all 4 GiB.
    pub fn start_flat(&mut self) {
        let mut sregs = self.vcpu.get_sregs().unwrap();
        sregs.cr0 |= 1;
        for segment in
            [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss, &mut sregs.fs, &mut sregs.gs]
        {
            (segment.base, segment.limit, segment.selector) = (0, u32::MAX, 16);
            (segment.type_, segment.s, segment.present, segment.db, segment.g) = (3, 1, 1, 1, 1);
        }
        (sregs.cs.selector, sregs.cs.type_) = (8, 11);
        self.vcpu.set_sregs(&sregs).unwrap();
    }

    /// Runs a program at `ip` that ends in a halt, with an address and a value; gives the value after it, and for how many
    /// accesses the guest came out.
    pub fn access(&mut self, ip: u64, addr: u64, value: u32) -> (u32, usize) {
        let mut regs = self.vcpu.get_regs().unwrap();
        (regs.rip, regs.rsi, regs.rax, regs.rflags) = (ip, addr, value.into(), 2);
        self.vcpu.set_regs(&regs).unwrap();
        let exits = self.run_to_halt().len();
        (self.vcpu.get_regs().unwrap().rax as u32, exits)
    }

    /// Runs until the guest halts, and gives what became of each access for which it came out.
    pub fn run_to_halt(&mut self) -> Vec<Result<(), MemTxError>> {
        let mut accesses = Vec::new();
        loop {
            match self.bus.run(&mut self.vcpu).unwrap() {
                Served::Access(result) => accesses.push(result),
                Served::Exit(KVM_EXIT_HLT) => return accesses,
                Served::Exit(other) => panic!("exit {other}: {:?}", self.vcpu.get_regs()),
            }
        }
    }
}
