//! What the monitor tells of CPUs and by virtual addresses, for both instruction sets.

use super::*;
use crate::testing::{mips, with_a_program};

fn say(hmp: &mut Hmp, line: &str) -> String {
    let mut out = Vec::new();
    hmp.execute(line, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Puts words into memory, in the board's order.
fn put(machine: &Machine, at: u64, words: &[u32]) {
    let bytes: Vec<u8> = match machine.memory().target() {
        flatview::Endianness::Big => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        flatview::Endianness::Little => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
    };
    machine.cpu_space().write(at, &bytes).unwrap();
}

/// Has the CPU do instructions, which stand at `phys`.
fn run(machine: &Machine, va: u64, phys: u64, code: &[u32]) {
    put(machine, phys, code);
    let step = |cpu: &mut dyn GuestCpu| {
        let pc = cpu.debug_registers().iter().position(|register| register.name == "pc").unwrap();
        cpu.set_debug_register(pc, va);
        // A step may be one that only notices what has come from outside.
        let end = va + 4 * code.len() as u64;
        for _ in 0..2 * code.len() + 2 {
            if cpu.pc() == end {
                return;
            }
            cpu.step();
        }
        panic!("it is at {:#x}", cpu.pc());
    };
    machine.with_cpu(0, step).unwrap();
}

fn everything(machine: &Machine) -> (String, Vec<u64>, Vec<u8>) {
    let mut ram = vec![0; 0x10_0000];
    machine.cpu_space().peek(0, &mut ram).unwrap();
    let of = |cpu: &mut dyn GuestCpu| {
        let registers = (0..cpu.debug_registers().len()).map(|n| cpu.debug_register(n)).collect();
        (cpu.tlb() + &cpu.registers(), registers)
    };
    let (text, registers) = machine.with_cpu(0, of).unwrap();
    (text, registers, ram)
}

/// `lui` and `ori` of a general register, and `mtc0` of it.
fn to_cp0(number: u32, value: u32) -> [u32; 3] {
    [0x3c1a_0000 | value >> 16, 0x375a_0000 | value & 0xffff, 0x409a_0000 | number << 11]
}

/// A pair of pages at 0x00400000 that leads to 0x3000 and 0x9000, one at 0x00500000 to the serial port.
fn map_on_mips(machine: &Machine) {
    let lo = |phys: u32| phys >> 6 | 2 << 3 | 6;
    let mut code = to_cp0(12, 0).to_vec();
    for (index, hi, pages) in
        [(0, 0x0040_0000, [lo(0x3000), lo(0x9000)]), (1, 0x0050_0000, [lo(0x1400_0000), 0])]
    {
        code.extend(to_cp0(0, index));
        code.extend(to_cp0(10, hi));
        code.extend(to_cp0(2, pages[0]));
        code.extend(to_cp0(3, pages[1]));
        // tlbwi
        code.push(0x4200_0002);
    }
    run(machine, 0x8000_1000, 0x1000, &code);
}

#[test]
fn x_goes_through_the_tlb_of_a_mips_page_by_page() {
    for board in ["mips", "mipsel"] {
        let machine = with_a_program(board, &format!("{board}/hello.elf"));
        map_on_mips(&machine);
        put(&machine, 0x3ff8, &[1, 2]);
        put(&machine, 0x9000, &[3, 4]);
        put(&machine, 0x9ff8, &[5, 6]);
        let before = everything(&machine);
        let mut hmp = Hmp::new(machine.clone());
        assert_eq!(
            say(&mut hmp, "x /4xw 0x400ff8"),
            "00400ff8: 0x00000001 0x00000002 0x00000003 0x00000004\n"
        );
        assert_eq!(
            say(&mut hmp, "x /6xw 0x401ff0"),
            "00401ff0: 0x00000000 0x00000000 0x00000005 0x00000006\n\
             00402000: Cannot access memory: 0x402000 is not mapped by the CPU\n"
        );
        assert_eq!(
            say(&mut hmp, "x /4xw 0x401ff8"),
            "00401ff8: Cannot access memory: 0x402000 is not mapped by the CPU\n",
            "a line is shown whole or not"
        );
        assert_eq!(say(&mut hmp, "gva2gpa 0x400ffc"), "gpa: 0x3ffc\n");
        assert_eq!(say(&mut hmp, "gva2gpa 0x401ffc"), "gpa: 0x9ffc\n");
        assert_eq!(say(&mut hmp, "gva2gpa 0x402000"), "Unmapped\n");
        let device = say(&mut hmp, "x /1xb 0x5003f8");
        assert!(device.starts_with("005003f8: Cannot access memory: region 'serial'"), "{device}");
        let device = say(&mut hmp, "x /2i 0x5003f8");
        assert!(device.starts_with("0x005003f8: unable to read memory: region 'serial'"), "{device}");
        assert_eq!(device.lines().count(), 1, "{device}");
        say(&mut hmp, "info mem");
        assert!(everything(&machine) == before, "looking changes nothing");
    }
}

#[test]
fn instructions_of_a_mips_are_shown_across_pages_and_up_to_the_first_that_is_not_mapped() {
    for board in ["mips", "mipsel"] {
        let machine = with_a_program(board, &format!("{board}/hello.elf"));
        map_on_mips(&machine);
        put(&machine, 0x3ffc, &[0x27bd_ffe8]);
        put(&machine, 0x9000, &[0xafbf_0014, 0x1000_fffd, 0x0000_0000, 0x7c03_e83b]);
        put(&machine, 0x9ffc, &[0xfc00_0000]);
        let mut hmp = Hmp::new(machine);
        assert_eq!(
            say(&mut hmp, "x/5i 0x400ffc"),
            "0x00400ffc:  addiu\tsp,sp,-24\n0x00401000:  sw\tra,20(sp)\n0x00401004:  b\t0x400ffc\n\
             0x00401008:  nop\n0x0040100c:  rdhwr\tv1,$29\n"
        );
        assert_eq!(
            say(&mut hmp, "x/9i 0x401ffc"),
            "0x00401ffc:  0xfc000000\n0x00402000: unable to read memory: 0x402000 is not mapped by the CPU\n"
        );
        assert_eq!(say(&mut hmp, "xp/2i 0x3ffc"), "0x00003ffc:  addiu\tsp,sp,-24\n0x00004000:  nop\n");
        assert!(say(&mut hmp, "x/2i $pc").starts_with("0x80001074:  "));
    }
}

#[test]
fn the_tlb_and_the_map_of_a_mips_are_told() {
    let machine = with_a_program("mips", "mips/hello.elf");
    map_on_mips(&machine);
    let mut hmp = Hmp::new(machine);
    let tlb = say(&mut hmp, "info tlb");
    assert!(tlb.starts_with("TLB: 16 entries, 0 wired, ASID 00\n"), "{tlb}");
    assert!(
        tlb.contains("\n 0  00400000 00001000 00   0 000003000 C=2 D=1 V=1 000009000 C=2 D=1 V=1\n"),
        "{tlb}"
    );
    assert_eq!(
        say(&mut hmp, "info mem"),
        "vaddr    paddr            size             kernel user cache\n\
         -------- ---------------- ---------------- ------ ---- -----\n\
         00400000 0000000000003000 0000000000001000 rwx    rwx  C=2\n\
         00401000 0000000000009000 0000000000001000 rwx    rwx  C=2\n\
         00500000 0000000014000000 0000000000001000 rwx    rwx  C=2\n\
         80000000 0000000000000000 0000000020000000 rwx    ---  C=2\n\
         a0000000 0000000000000000 0000000020000000 rwx    ---  C=2\n"
    );
}

/// Sets registers of a PowerPC by gdb's names.
fn set(machine: &Machine, registers: &[(&str, u64)]) {
    let set = |cpu: &mut dyn GuestCpu| {
        for (name, value) in registers {
            let at = cpu.debug_registers().iter().position(|register| register.name == *name).unwrap();
            cpu.set_debug_register(at, *value);
        }
    };
    machine.with_cpu(0, set).unwrap();
}

/// `mtspr` of r3.
fn mtspr(number: u32) -> u32 {
    31 << 26 | 3 << 21 | (number & 31) << 16 | (number >> 5) << 11 | 467 << 1
}

/// A page table at 0x10000 with pages 0x21 and 0x22 of segment 0, a data BAT at 0x80000000 and an instruction BAT at
/// 0x90000000, both to 0x40000.
fn map_on_ppc(machine: &Machine) {
    set(machine, &[("msr", 0), ("sdr1", 0x1_0000), ("sr0", 0x123)]);
    let (group, upper) = (|page: u64| 0x1_0000 + (0x123 ^ page) * 64, 1 << 31 | 0x123 << 7);
    put(machine, group(0x21), &[upper, 0x5_0002]);
    put(machine, group(0x22) + 8, &[upper, 0x7_0002]);
    for (spr, value) in [(536, 0x8000_0003), (537, 0x4_0002), (528, 0x9000_0003), (529, 0x4_0002)] {
        set(machine, &[("r3", value)]);
        run(machine, 0x2000, 0x2000, &[mtspr(spr)]);
    }
}

#[test]
fn x_goes_through_bats_and_the_page_table_of_a_powerpc_and_marks_no_page() {
    let machine = with_a_program("cpiom", "cpiom/cpiom-partitions.elf");
    map_on_ppc(&machine);
    put(&machine, 0x5_0ff8, &[1, 2]);
    put(&machine, 0x7_0000, &[3, 4]);
    put(&machine, 0x4_0010, &[0x3860_0001]);
    let mut hmp = Hmp::new(machine.clone());
    // Addresses are real as long as nothing is translated.
    assert_eq!(say(&mut hmp, "x /2xw 0x50ff8"), "00050ff8: 0x00000001 0x00000002\n");
    assert_eq!(say(&mut hmp, "gva2gpa 0x21000"), "gpa: 0x21000\n");
    set(&machine, &[("msr", 0x30)]);
    let before = everything(&machine);
    assert_eq!(say(&mut hmp, "x /4xw 0x21ff8"), "00021ff8: 0x00000001 0x00000002 0x00000003 0x00000004\n");
    assert_eq!(say(&mut hmp, "x /1xw 0x80000010"), "80000010: 0x38600001\n");
    assert_eq!(
        say(&mut hmp, "x /8xw 0x22ff0"),
        "00022ff0: 0x00000000 0x00000000 0x00000000 0x00000000\n\
         00023000: Cannot access memory: 0x23000 is not mapped by the CPU\n"
    );
    // What only instructions are fetched from, and what only data is.
    assert_eq!(say(&mut hmp, "x /1i 0x90000010"), "0x90000010:  38600001  li       r3, 1\n");
    assert_eq!(say(&mut hmp, "x /1i 0x80000010"), "0x80000010:  38600001  li       r3, 1\n");
    assert_eq!(say(&mut hmp, "gva2gpa 0x22004"), "gpa: 0x70004\n");
    assert_eq!(say(&mut hmp, "gva2gpa 0x23004"), "Unmapped\n");
    assert_eq!(
        say(&mut hmp, "info mem"),
        "Translation: data on, instructions on\n\
         vaddr    paddr            size             kernel user cache\n\
         -------- ---------------- ---------------- ------ ---- -----\n\
         00021000 0000000000050000 0000000000001000 rwx    rwx  ----\n\
         00022000 0000000000070000 0000000000001000 rwx    rwx  ----\n\
         80000000 0000000000040000 0000000000020000 rw-    rw-  ----\n\
         90000000 0000000000040000 0000000000020000 --x    --x  ----\n"
    );
    let tlb = say(&mut hmp, "info tlb");
    assert!(tlb.contains("\ndata BAT0 BATu 80000003 BATl 00040002\n"), "{tlb}");
    assert!(everything(&machine) == before, "neither R nor C is set");
}

#[test]
fn without_a_cpu_nobody_translates_and_it_is_said_so() {
    let mut hmp = Hmp::new(mips());
    for line in ["info tlb", "info mem", "info registers"] {
        let nobody = say(&mut hmp, line);
        assert!(nobody.starts_with("Error: This machine has no CPU that runs"), "{line}: {nobody}");
    }
    assert_eq!(say(&mut hmp, "x/1i 0"), "0x00000000:  00000000  .byte    0x00, 0x00, 0x00, 0x00\n");
    let extra = say(&mut hmp, "info mem 1");
    assert_eq!(
        extra,
        "mem: extraneous characters at the end of line\nTry \"help info mem\" for more information\n"
    );
}
