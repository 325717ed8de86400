//! What monitors are told of the MMU: it is what accesses meet, and telling changes nothing.

use super::*;
use flatview_cpu::Isa;

/// A row of `info mem`: first address, physical address, size, rights of kernel and user, cache.
type Row = (u32, u64, u64, String, String, String);

fn rows(text: &str) -> Vec<Row> {
    let lines = text.lines().skip_while(|line| !line.starts_with("--------")).skip(1);
    let number = |word: &str| u64::from_str_radix(word, 16).unwrap();
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [va, phys, size, kernel, user, cache] = words[..] else { panic!("{line}") };
            let owned = |word: &str| word.to_owned();
            (number(va) as u32, number(phys), number(size), owned(kernel), owned(user), owned(cache))
        })
        .collect()
}

fn set_spr(board: &mut Board, n: u32, value: u32) {
    board.program(&[mtspr(n, 4)]);
    board.set(4, value);
    board.step(1);
}

fn ram(board: &Board) -> Vec<u8> {
    let mut bytes = vec![0; RAM as usize];
    board.memory.memory_space().reader().peek(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn blocks_and_pages_are_told_in_ranges() {
    let mut board = Board::new();
    with_table(&mut board, 0x123 | 1 << 29);
    // DBAT0 and IBAT0: 256 KiB at 0x80000000, for both; DBAT1: 128 KiB at 0xf0000000, not cached, read by the kernel only.
    for (n, value) in [
        (536, 0x8000_0007),
        (537, 0x0004_0002),
        (528, 0x8000_0007),
        (529, 0x0004_0002),
        (538, 0xf000_0002),
        (539, 0x000e_0029),
    ] {
        set_spr(&mut board, n, value);
    }
    // Three pages in a row, of which users may only read the last one; one alone; and one that nobody refers to.
    for (page, lower) in [(0x21, 0x4_4002), (0x22, 0x4_5002), (0x23, 0x4_6001), (0x25, 0x9_0002)] {
        board.words(groups(page).0 + 8, &[ENTRY, lower]);
    }
    board.words(groups(0x30).0, &[1 << 31 | 0x777 << 7, 0x4_4002]);
    board.msr(ME | DR | IR);
    let before = ram(&board);
    let text = GuestCpu::mappings(&board.cpu);
    assert_eq!(
        text,
        "Translation: data on, instructions on\n\
         vaddr    paddr            size             kernel user cache\n\
         -------- ---------------- ---------------- ------ ---- -----\n\
         00021000 0000000000044000 0000000000002000 rwx    rwx  ----\n\
         00023000 0000000000046000 0000000000001000 rwx    r-x  ----\n\
         00025000 0000000000090000 0000000000001000 rwx    rwx  ----\n\
         10021000 0000000000044000 0000000000002000 rwx    rwx  ----\n\
         10023000 0000000000046000 0000000000001000 rwx    r-x  ----\n\
         10025000 0000000000090000 0000000000001000 rwx    rwx  ----\n\
         80000000 0000000000040000 0000000000040000 rwx    rwx  ----\n\
         f0000000 00000000000e0000 0000000000020000 r--    ---  -I-G\n"
    );
    assert_eq!(rows(&text).len(), 8, "segments 0 and 1 have the same number");
    assert_eq!(ram(&board), before, "no entry is marked as referenced");
    // Where translation is off, everything is where it is; instructions still go by their own.
    board.msr(ME | IR);
    let text = GuestCpu::mappings(&board.cpu);
    assert!(text.starts_with("Translation: data off, instructions on\n"), "{text}");
    assert!(text.contains("\n00000000 0000000000000000 0000000100000000 rw-    rw-  ---G\n"), "{text}");
    assert!(text.contains("\n80000000 0000000000040000 0000000000040000 --x    --x  ----\n"), "{text}");
    board.msr(ME);
    let text = GuestCpu::mappings(&board.cpu);
    assert_eq!(rows(&text), [(0, 0, 1 << 32, "rwx".into(), "rwx".into(), "---G".into())]);
}

#[test]
fn registers_of_the_mmu_are_told_as_qemu_tells_those_of_the_603() {
    let mut board = Board::new();
    with_table(&mut board, 0x123 | 1 << 29);
    set_spr(&mut board, 536, 0x8000_0007);
    set_spr(&mut board, 537, 0x0004_0002);
    let text = GuestCpu::tlb(&board.cpu);
    assert!(text.starts_with("HTAB base = 0x10000\nHTAB mask = 0xffff\n\nSegment registers:\n"), "{text}");
    assert!(
        text.contains("\n01 T=0 Ks=0 Kp=1 N=0 VSID=0x000123\n02 T=0 Ks=0 Kp=0 N=0 VSID=0x000000\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "\nBATs:\ndata BAT0 BATu 80000007 BATl 00040002\n\
             \t80000000-8003ffff -> 00040000 WIMG=0000, kernel and user: read and write\n\
             data BAT1 BATu 00000000 BATl 00000000\ndata BAT2"
        ),
        "{text}"
    );
    assert!(text.contains("\ncode BAT3") && !text.contains("BAT4"), "{text}");
    assert!(
        text.ends_with("\nTLBs:\nfilled from the table by hardware; what they hold is not modelled\n"),
        "{text}"
    );
}

#[test]
fn what_software_put_into_the_tlbs_of_the_755_is_told() {
    let mut board = Board::with(PpcModel::ppc755(), BusErrors::MachineCheck);
    with_table(&mut board, 0x123);
    set_spr(&mut board, 1011, 1 << 19);
    let empty = GuestCpu::tlb(&board.cpu);
    assert!(empty.contains("\ndata BAT7 ") && empty.contains("\ncode TLB: no entry is valid\n"), "{empty}");
    // A miss sets DCMP; then the entry is loaded.
    board.program(&[mtmsr(7), lwz(5, 4, 0)]);
    board.set(4, 0x2_1230);
    board.set(7, DR);
    board.step(2);
    board.program(&[mtspr(982, 24), x(0, 0, 4, 978)]);
    board.set(24, 0x4_4182);
    board.step(2);
    let text = GuestCpu::tlb(&board.cpu);
    let line = "\ndata TLB 33/64 way:0 valid VSID=0x000123 page 0021 -> 00044000 C=1 WIMG=0000 PP=2\n";
    assert!(text.contains(line), "{text}");
    board.msr(DR);
    let text = GuestCpu::mappings(&board.cpu);
    assert!(text.contains("\n00021000 0000000000044000 0000000000001000 rw-    rw-  ----\n"), "{text}");
}

/// What the rows say of an address, by the mode and the kind of access.
fn told(rows: &[Row], va: u32, user: bool, kind: Kind) -> Option<u64> {
    let letter = match kind {
        Kind::Read => 'r',
        Kind::Write => 'w',
        Kind::Fetch => 'x',
    };
    let about = rows.iter().filter(|row| u64::from(va).wrapping_sub(row.0.into()) < row.2);
    let mut found = about.filter(|row| if user { &row.4 } else { &row.3 }.contains(letter));
    let first = found.next().map(|row| row.1 + u64::from(va - row.0));
    assert_eq!(found.next(), None, "{va:08x} is told twice");
    first
}

#[test]
fn whatever_the_guest_has_put_there_the_ranges_are_what_accesses_meet() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        let model = if round % 2 == 0 { PpcModel::ppc604() } else { PpcModel::ppc755() };
        let mut board = Board::with(model, BusErrors::Ignore);
        // Tables of any size anywhere, half of which have no memory behind them.
        let mask = [0, 1, 3, 7, 0x105, 0x1ff][round % 6];
        let sdr1 = random.u32(..16) << 16 | mask;
        let vsids: [u32; 4] = std::array::from_fn(|_| random.u32(..1 << 24));
        for n in 0..16 {
            let segment = vsids[random.usize(..4)] | random.u32(..) & 0x7000_0000;
            let direct = if random.u32(..8) == 0 { 1 << 31 } else { 0 };
            board.program(&[x(4, n, 0, 210)]);
            board.set(4, segment | direct);
            board.step(1);
        }
        let bats = (0..4).filter(|_| random.bool()).collect::<Vec<u32>>();
        for n in bats.into_iter().flat_map(|n| [528 + 2 * n, 536 + 2 * n]) {
            let length = random.u32(..) & [0x7, 0x1f, 0x5][random.usize(..3)];
            set_spr(&mut board, n, random.u32(..) & 0xfffe_0003 | length << 2);
            set_spr(&mut board, n + 1, random.u32(..) & 0xfffe_007b);
        }
        set_spr(&mut board, 25, sdr1);
        // Entries of pages in all segments, in the groups where they belong, and noise.
        let mut pages = Vec::new();
        for _ in 0..3000 {
            let (n, page) = (random.u32(..16), random.u32(..0x200) | random.u32(..64) << 10);
            pages.push(n << 28 | page << 12);
            let vsid = vsids[random.usize(..4)];
            let secondary = random.bool();
            let hash = vsid & 0x7_ffff ^ page;
            let hash = if secondary { !hash } else { hash };
            let at = sdr1 & 0xffff_0000 | (hash >> 10 & 0x1ff & mask) << 16 | (hash & 0x3ff) << 6;
            let at = at + random.u32(..8) * 8;
            if u64::from(at) + 8 <= RAM {
                let upper = 1 << 31 | vsid << 7 | u32::from(secondary) << 6 | page >> 10;
                board.words(at, &[upper, random.u32(..) & 0xffff_f1fb]);
            }
        }
        for msr in [IR, DR, IR | DR] {
            board.msr(ME | msr);
            let before = ram(&board);
            let rows = rows(&GuestCpu::mappings(&board.cpu));
            assert!(ram(&board) == before, "the table is as it was");
            random.shuffle(&mut pages);
            let mut addresses = pages.get(..800).unwrap().to_vec();
            addresses.extend((0..400).map(|_| random.u32(..)));
            for user in [false, true] {
                board.msr(ME | msr | if user { PR } else { 0 });
                for va in &addresses {
                    for kind in [Kind::Read, Kind::Write, Kind::Fetch] {
                        let va = va & !3;
                        let met = Ppc::physical(board.cpu.core(), va.into(), kind);
                        assert_eq!(told(&rows, va, user, kind), met, "{round} {va:08x} {user} {kind:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_table_made_to_cost_time_costs_little_and_its_text_is_bounded() {
    let memory = Memory::new(Endianness::Big);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 64 << 20).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let clock = Clock::stepped();
    let isa = Ppc::new(PpcModel::ppc604(), &clock, 1_000_000).with_bus_errors(BusErrors::Ignore);
    let mut cpu = Cpu::new(isa, &memory, &memory.memory_space()).unwrap();
    // 32 MiB of valid entries. Each page of each segment has one, the last or the last but one of its group, and leads
    // to another place than its neighbours.
    let mut table = vec![0_u8; 32 << 20];
    for (entry, n) in table.chunks_mut(8).zip(0_u32..) {
        let (group, slot) = (n >> 3, n & 7);
        let (vsid, page) = (group >> 16 << 16 | (slot & 1) << 20, group & 0xffff);
        let api = if slot < 6 { page >> 10 ^ 1 } else { page >> 10 };
        entry[..4].copy_from_slice(&(1 << 31 | vsid << 7 | api).to_be_bytes());
        entry[4..].copy_from_slice(&((n << 13) | 2).to_be_bytes());
    }
    memory.memory_space().reader().poke(0x200_0000, &table).unwrap();
    let core = cpu.core_mut();
    core.isa.set_msr(ME | IR | DR);
    let set = |core: &mut flatview_cpu::Core<Ppc>, name: &str, value| {
        let at = Ppc::debug_registers().iter().position(|register| register.name == name).unwrap();
        Ppc::set_debug_register(core, at, value);
    };
    set(core, "sdr1", 0x0200_01ff);
    for n in 0..16 {
        set(core, &format!("sr{n}"), (n & 7) << 16 | (n >> 3) << 20);
    }
    let begin = std::time::Instant::now();
    let text = GuestCpu::mappings(&cpu);
    let took = begin.elapsed();
    assert!(text.lines().count() <= (1 << 16) + 4 && text.contains("\n... and at least "), "{}", text.len());
    assert!(took.as_secs() < 20, "{took:?}");
    println!("{took:?}");
}
