//! A guest in 16-bit real mode: it copies a greeting out of ROM, letter by letter, to a serial port and to RAM, which it
//! sees twice; asks a device for a number, rings a bell, and halts.
//!
//! Needs Linux on x86-64 with /dev/kvm; elsewhere it says so and ends.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    guest::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("The guest is an x86 program: it needs Linux on an x86-64 host.");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guest {
    use std::error::Error;
    use std::sync::Arc;

    use flatview::{DirtyClient, Endianness, EventNotifier, Memory, MemoryError, Ops, RamBlock, Region};
    use flatview_kvm::{KvmMemory, Served};
    use kvm_bindings::KVM_EXIT_HLT;
    use kvm_ioctls::{Kvm, VcpuFd};

    const PROGRAM: &[u8] = &[
        0xb8, 0x00, 0xf0, 0x8e, 0xd8, //       mov ax, 0xf000; mov ds, ax    the ROM
        0xb8, 0x00, 0x20, 0x8e, 0xc0, //       mov ax, 0x2000; mov es, ax    RAM's alias
        0x31, 0xf6, 0xbf, 0x00, 0x80, //       xor si, si; mov di, 0x8000
        0xba, 0xf8, 0x03, //                   mov dx, 0x3f8
        0xac, //                         next: lodsb
        0x84, 0xc0, 0x74, 0x04, //             test al, al; jz done
        0xee, 0xaa, //                         out dx, al; stosb
        0xeb, 0xf7, //                         jmp next
        0xb8, 0x00, 0xd0, 0x8e, 0xd8, // done: mov ax, 0xd000; mov ds, ax    the device
        0xa1, 0x00, 0x00, //                   mov ax, [0]
        0xa3, 0x02, 0x00, //                   mov [2], ax                   its bell
        0xf4, //                               hlt
    ];

    pub fn main() -> Result<(), Box<dyn Error>> {
        let kvm = match Kvm::new() {
            Ok(kvm) => kvm,
            Err(error) => {
                println!("There is no KVM here: /dev/kvm: {error}");
                return Ok(());
            }
        };

        // A machine, as on any other CPU.
        let memory = Memory::new(Endianness::Little);
        let (ram_block, rom_block) =
            (RamBlock::anonymous("ram", 0x1_0000)?, RamBlock::anonymous("rom", 0x1000)?);
        ram_block.write(0x1000, PROGRAM)?;
        rom_block.write(0, b"Hello out of ROM\n\0")?;
        let bell = Arc::new(EventNotifier::new()?);
        let serial = Ops::new().write(|_, letter| {
            print!("{}", letter as u8 as char);
            Ok(())
        });
        let ram = memory.update(|t| {
            let ram = t.add(Region::ram("ram", ram_block))?;
            let alias = t.add(Region::alias("ram again", ram, 0, 0x1_0000))?;
            let rom = t.add(Region::rom("rom", rom_block))?;
            let device = t.add(Region::io("device", 4, Ops::new().read(|_| Ok(42))))?;
            let serial = t.add(Region::io("serial", 8, serial))?;
            t.map(memory.system(), 0, ram)?;
            t.map(memory.system(), 0x2_0000, alias)?;
            t.map(memory.system(), 0xd_0000, device)?;
            t.map(memory.system(), 0xf_0000, rom)?;
            t.map(memory.io(), 0x3f8, serial)?;
            t.add_eventfd(device, 2, 2, Some(42), &bell)?;
            t.set_log(ram, DirtyClient::VGA, true)?;
            Ok::<_, MemoryError>(ram)
        })?;
        memory.reset_dirty(ram, 0, 0x1_0000, DirtyClient::VGA)?;

        // In KVM's hands.
        let vm = Arc::new(kvm.create_vm()?);
        vm.set_tss_address(0xfffb_d000)?;
        let kvm = KvmMemory::new(Arc::clone(&vm), &memory)?;
        for slot in kvm.slots() {
            let kind = if slot.readonly { "read-only" } else { "" };
            println!(
                "slot {}: {:#8x} {:#8x} bytes of {:9} {kind}",
                slot.number, slot.addr, slot.size, slot.name
            );
        }
        let mut vcpu = vm.create_vcpu(0)?;
        start(&mut vcpu, 0x1000)?;
        let bus = kvm.bus()?;
        loop {
            match bus.run(&mut vcpu)? {
                Served::Access(_) => {}
                Served::Exit(KVM_EXIT_HLT) => break,
                Served::Exit(why) => return Err(format!("the guest came out for reason {why}").into()),
            }
        }

        println!("the bell rang: {}", bell.test_and_clear()?);
        let mut copy = [0; 16];
        memory.memory_space().read(0x8000, &mut copy)?;
        println!("RAM at 0x8000: {}", String::from_utf8_lossy(&copy));
        let dirty = memory.snapshot_and_clear_dirty(ram, 0, 0x1_0000, DirtyClient::VGA)?;
        println!("written: {:x?}", dirty.runs().collect::<Vec<_>>());
        Ok(())
    }

    /// Real mode, all segments at 0.
    fn start(vcpu: &mut VcpuFd, ip: u64) -> Result<(), kvm_ioctls::Error> {
        let mut sregs = vcpu.get_sregs()?;
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        vcpu.set_sregs(&sregs)?;
        let mut regs = vcpu.get_regs()?;
        (regs.rip, regs.rflags) = (ip, 2);
        vcpu.set_regs(&regs)
    }
}
