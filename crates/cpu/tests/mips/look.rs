//! What monitors are told of the MMU: it is what accesses meet, and telling changes nothing.

use flatview_cpu::mips::{Mips, TlbEntry};
use flatview_cpu::{GuestCpu, Isa, Kind};

use crate::support::{Board, asm::*};

/// EntryLo of a page that can be written, cached.
fn lo(phys: u32) -> u32 {
    phys >> 6 | 3 << 3 | 6
}

const HEAD: &str = "vaddr    paddr            size             kernel user cache\n\
                    -------- ---------------- ---------------- ------ ---- -----\n";

fn set_status(board: &mut Board, status: u32) {
    board.cpu.core_mut().isa.cp0.set_all_status(status);
}

#[test]
fn the_map_and_what_the_tlb_adds_to_it_are_told_in_ranges() {
    let mut board = Board::new();
    board.handler();
    board.program(&[lui(4, 0x40), ori(4, 4, 5), 0x4084_5000, b(-1), nop()]);
    board.run(4);
    let core = board.cpu.core_mut();
    let entry = |hi, lo, global| TlbEntry { hi, mask: 0, lo, global };
    // Two pairs in a row, of which the last page is read only; another address space's; one in kseg2 that all have.
    core.isa.tlb[0] = entry(0x0040_0005, [lo(0x1000), lo(0x2000)], false);
    core.isa.tlb[1] = entry(0x0040_2005, [lo(0x3000), lo(0x4000) & !4], false);
    core.isa.tlb[2] = entry(0x0080_0006, [lo(0x5000), lo(0x6000)], false);
    core.isa.tlb[3] = TlbEntry { hi: 0xc000_0000, mask: 0x1_e000, lo: [lo(0x8_0000), 0], global: true };
    let before = core.isa.tlb.clone();
    let text = GuestCpu::mappings(&board.cpu);
    assert_eq!(
        text,
        format!(
            "{HEAD}\
             00400000 0000000000001000 0000000000003000 rwx    rwx  C=3\n\
             00403000 0000000000004000 0000000000001000 r-x    r-x  C=3\n\
             80000000 0000000000000000 0000000020000000 rwx    ---  C=2\n\
             a0000000 0000000000000000 0000000020000000 rwx    ---  C=2\n\
             c0000000 0000000000080000 0000000000010000 rwx    ---  C=3\n"
        )
    );
    assert_eq!(board.cpu.core().isa.tlb, before);
    // At the error level kuseg is where it is.
    set_status(&mut board, 4);
    let text = GuestCpu::mappings(&board.cpu);
    assert!(
        text.starts_with(&format!("{HEAD}00000000 0000000000000000 0000000080000000 rwx    ---  C=2\n")),
        "{text}"
    );
}

#[test]
fn all_entries_of_the_tlb_are_told() {
    let mut board = Board::new();
    board.cpu.core_mut().isa.tlb[15] =
        TlbEntry { hi: 0x0040_0005, mask: 0x6000, lo: [lo(0x8000), 0], global: false };
    let text = GuestCpu::tlb(&board.cpu);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 18, "{text}");
    assert_eq!(lines[0], "TLB: 16 entries, 0 wired, ASID 00");
    assert_eq!(lines[1], " #  vaddr    page     ASID G even page                odd page");
    assert_eq!(lines[2], " 0  80000000 00001000 00   0 000000000 C=0 D=0 V=0 000000000 C=0 D=0 V=0");
    assert_eq!(lines[17], "15  00400000 00004000 05   0 000008000 C=3 D=1 V=1 000000000 C=0 D=0 V=0");
    assert_eq!(GuestCpu::tlb(&Board::with_model("R4000").cpu).lines().count(), 50);
}

#[test]
fn whatever_the_guest_has_put_there_the_ranges_are_what_accesses_meet() {
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..60 {
        let mut board = Board::with_model(if round % 2 == 0 { "24Kf" } else { "R4000" });
        let mut interesting = vec![0, 0x7fff_fffc, 0x8000_0000, 0xa000_0000, 0xc000_0000, 0xffff_fffc];
        for entry in &mut board.cpu.core_mut().isa.tlb {
            let mask = [0, 0x6000, 0x1_e000, 0x7_e000, 0x1f_e000, 0x2000, 0x1ff_e000][random.usize(..7)];
            // Few places, so that entries overlap.
            let hi = random.u32(..16) << 28 | random.u32(..64) << 13 | random.u32(..2);
            let lo = [random.u32(..) & 0x03ff_fffe, random.u32(..) & 0x03ff_fffe];
            *entry = TlbEntry { hi, mask, lo, global: random.bool() };
            interesting.extend([hi & !0x1fff, (hi & !0x1fff) + 0x1000, (hi & !0x1fff | mask | 0x1fff) - 3]);
        }
        for status in [0, 4, 0x10] {
            set_status(&mut board, status);
            let text = GuestCpu::mappings(&board.cpu);
            let rows: Vec<(u64, u64, u64, &str, &str)> = text
                .lines()
                .skip(2)
                .map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let number = |n: usize| u64::from_str_radix(words[n], 16).unwrap();
                    (number(0), number(1), number(2), words[3], words[4])
                })
                .collect();
            interesting.extend((0..500).map(|_| random.u32(..) & !3));
            for &va in &interesting {
                let row = rows.iter().find(|row| u64::from(va).wrapping_sub(row.0) < row.2);
                for (kind, letter) in [(Kind::Read, 'r'), (Kind::Write, 'w'), (Kind::Fetch, 'x')] {
                    let rights = |row: &&(u64, u64, u64, &str, &str)| {
                        if status == 0x10 { row.4 } else { row.3 }.contains(letter)
                    };
                    let told = row.filter(rights).map(|row| row.1 + (u64::from(va) - row.0));
                    let met = Mips::physical(board.cpu.core(), va.into(), kind);
                    assert_eq!(told, met, "{round} {status:#x} {va:08x} {kind:?}\n{text}");
                }
            }
        }
    }
}
