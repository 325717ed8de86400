//! Units of the operating environment: registers, segments, pages, blocks, modes, interrupts, and jumps to nowhere.

use super::*;

/// Where pages are besides those of [`DATA_ALIAS`] and [`CODE_ALIAS`].
const FAR: [u32; 6] = [0x2000_0000, 0x2040_0000, 0x2fff_c000, 0x7000_0000, 0x71c0_8000, 0x8000_0000];
/// How many of them follow each other.
const FAR_PAGES: u32 = 4;

impl Generator<'_> {
    /// MSR in the mode that units are made for.
    pub(super) fn msr(&mut self) -> u32 {
        let mut msr = ME | self.rng.of(&[IR | DR, IR | DR, IR | DR, IR | DR, IR | DR, 0, IR, DR]);
        msr |= self.vectors;
        for (bit, seldom) in [(EE, 3), (RI, 2)] {
            msr |= if self.rng.one_in(seldom) { bit } else { 0 };
        }
        if !self.rng.one_in(12) {
            msr |= FP;
        }
        if self.float_exceptions {
            msr |= self.rng.of(&[FE0, FE1, FE0 | FE1]);
        }
        if self.user { msr | PR | IR | DR } else { msr }
    }

    fn segment(&mut self, n: u32) -> u32 {
        // Keys for the kernel and the user, no execution, and a number of its own.
        let bits = self.rng.below(4) << 29 | u32::from(self.rng.one_in(8)) << 28;
        // Code that is reached by pages can be executed.
        let bits = if n == CODE_ALIAS >> 28 { bits & !(1 << 28) } else { bits };
        bits | self.segments[n as usize] & 0x00ff_ffff
    }

    /// Segments and pages; BATs, and the page table.
    pub(super) fn translations(&mut self) -> ([u32; 16], Vec<u32>) {
        for n in 0..16 {
            self.segments[n as usize] = self.rng.next() as u32 & 0x00ff_fff0 | n;
            self.segments[n as usize] = self.segment(n);
        }
        let mut table = vec![0; TABLE_BYTES / 4];
        let own = |alias: u32, from: u32, n: u32| (0..n).map(move |i| alias | (from + (i << 12)));
        let mut addresses: Vec<u32> = own(DATA_ALIAS, DATA, 16).chain(own(CODE_ALIAS, PROGRAM, 2)).collect();
        addresses.extend(FAR.iter().flat_map(|at| (0..FAR_PAGES).map(move |i| at + (i << 12))));
        for address in addresses {
            let vsid = self.segments[(address >> 28) as usize] & 0x00ff_ffff;
            let slot = self.rng.below(8);
            let mut page = Page { address, vsid, secondary: self.rng.one_in(3), slot };
            while table[(page.entry() - TABLE) as usize / 4] != 0 {
                page.slot = (page.slot + 1) & 7;
            }
            let at = (page.entry() - TABLE) as usize / 4;
            table[at] = page.upper(!self.rng.one_in(8));
            table[at + 1] = self.lower(page);
            self.pages.push(page);
        }
        let mut bats = [0; 16];
        for first in [0, 8] {
            // Everything that is the program's, for everyone.
            (bats[first], bats[first + 1]) = (1 << 2 | 3, 2);
            for n in 1..4 {
                let at = first + 2 * n as usize;
                (bats[at], bats[at + 1]) = self.block(n);
            }
        }
        (bats, table)
    }

    /// The lower word of a page's entry: the frame of its place, or one of the data.
    fn lower(&mut self, page: Page) -> u32 {
        let code = page.address & 0xf000_0000 == CODE_ALIAS;
        let far = page.address & 0xf000_0000 != DATA_ALIAS && !code;
        let frame = if far { DATA | self.rng.below(16) << 12 } else { page.address & 0x0fff_f000 };
        // Blocks of caches are cleared in what is not far, so that is cached.
        let attributes = if far { self.rng.of(&[0, 2, 4, 8, 0]) } else { self.rng.of(&[0, 2]) };
        let protection = match self.rng.below(4) {
            _ if code => self.rng.of(&[2, 3]),
            0 => self.rng.below(4),
            1 => 1,
            _ => 2,
        };
        // R and C, which the CPU sets.
        frame | self.rng.below(4) << 7 | attributes << 3 | protection
    }

    /// The block of pair `n`, with the same memory behind it as the first one.
    fn block(&mut self, n: u32) -> (u32, u32) {
        let at = BLOCK_ALIAS + ((n - 1) << 28);
        let (supervisor, user) = (u32::from(!self.rng.one_in(5)), u32::from(!self.rng.one_in(5)));
        let protection = if self.rng.one_in(3) { self.rng.below(4) } else { 2 };
        (at | 1 << 2 | supervisor << 1 | user, protection)
    }

    pub(super) fn read_system(&mut self) -> u32 {
        const READ: [u32; 30] = [
            DSISR, DAR, DEC, SDR1, SRR0, SRR1, SPRG0, 273, 274, 275, 282, 287, 528, 529, 531, 534, 536, 537,
            538, 541, 543, 952, 953, 954, HID0, 1010, 1013, 1023, XER, CTR,
        ];
        let t = self.target();
        match self.rng.below(8) {
            0 => mfmsr(t),
            1 => mfsr(t, self.rng.below(16)),
            2 => x(659, t, 0, self.source()),
            3 => x(371, t, self.rng.of(&[12, 13]), 8),
            4 if self.rng.one_in(2) => x(566, 0, 0, 0),
            4 => x(306, 0, 0, self.source()),
            _ => mfspr(t, self.rng.of(&READ)),
        }
    }

    pub(super) fn write_system(&mut self) -> Unit {
        const ALL: u32 = u32::MAX;
        // What can be written, and does nothing.
        const WRITTEN: [(u32, u32); 14] = [
            (DSISR, ALL),
            (DAR, ALL),
            (SRR0, ALL),
            (SRR1, ALL),
            (SPRG0, ALL),
            (273, ALL),
            (274, ALL),
            (275, ALL),
            (953, ALL),
            (954, ALL),
            (HID0, 0xf101_f084),
            (1010, !3),
            (1013, !7),
            (1023, 15),
        ];
        let t = self.scratch();
        let (n, bits) = self.rng.of(&WRITTEN);
        let mut words = li(t, self.rng.edge() & bits).to_vec();
        words.push(mtspr(n, t));
        if self.rng.one_in(2) {
            words.push(mfspr(self.target(), n));
        }
        words.into()
    }

    /// One of the pages.
    fn page(&mut self) -> Page {
        let n = self.rng.below(self.pages.len() as u32);
        self.pages[n as usize]
    }

    /// Something with translations. The kernel's: it begins with a system call.
    pub(super) fn translate(&mut self) -> Unit {
        let t = self.scratch();
        let a = self.scratch_beside(t);
        let mut words = vec![SC];
        match self.rng.below(6) {
            0 => {
                // The segments that lead to pages.
                let n = self.rng.of(&[1, 1, 2, 2, 3, 7, 8]);
                words.extend(li(t, self.segment(n)));
                if self.rng.one_in(2) {
                    words.push(mtsr(n, t));
                } else {
                    words.extend([addis(a, 0, n << 12), x(242, t, 0, a)]);
                }
                words.push(ISYNC);
            }
            1 => {
                let n = 1 + self.rng.below(3);
                let (upper, lower) = self.block(n);
                let first = self.rng.of(&[528, 536]) + 2 * n;
                // Not valid until both halves are there.
                words.extend([addi(t, 0, 0), mtspr(first, t)]);
                words.extend(li(t, lower));
                words.push(mtspr(first + 1, t));
                words.extend(li(t, upper));
                words.extend([mtspr(first, t), ISYNC]);
            }
            _ => {
                let page = self.page();
                let valid = !self.rng.one_in(5);
                words.extend(li(a, page.entry()));
                words.extend(li(t, page.upper(valid)));
                words.push(stw(t, a, 0));
                let lower = self.lower(page);
                words.extend(li(t, lower));
                words.push(stw(t, a, 4));
                words.extend(li(t, page.address));
                words.extend([SYNC, x(306, 0, 0, t), SYNC, x(566, 0, 0, 0), SYNC, ISYNC]);
                if self.rng.one_in(2) {
                    words.push(x(87, self.target(), 0, t));
                    // What was done to R and C.
                    words.extend(li(t, page.entry()));
                    words.push(lwz(t, t, 4));
                }
            }
        }
        words.into()
    }

    /// An access through a page or a block, or where there is none.
    pub(super) fn far_access(&mut self) -> Unit {
        let (t, r) = (self.scratch(), self.target());
        let at = match self.rng.below(8) {
            0 => 0xd000_0000 | self.rng.below(0x1_0000),
            1 => (BLOCK_ALIAS + (self.rng.below(3) << 28)) | DATA | self.rng.below(0xff00),
            // Over the edge of a page.
            2 => self.page().address + 0xffd + self.rng.below(3),
            _ => self.page().address + self.rng.below(0x1000),
        };
        // The code is not written.
        let load = at & 0xf000_0000 == CODE_ALIAS || !self.rng.one_in(3);
        let at = if self.rng.one_in(5) { at } else { at & !3 };
        let op = match load {
            true => self.rng.of(&[23, 87, 279, 343, 534, 790, 23, 54, 982]),
            false => self.rng.of(&[151, 215, 407, 662, 918, 151]),
        };
        let mut words = li(t, at).to_vec();
        let r = if matches!(op, 54 | 982) { 0 } else { r };
        words.push(x(op, r, 0, t));
        words.into()
    }

    pub(super) fn set_mode(&mut self) -> Unit {
        let t = self.scratch();
        let mut words = vec![SC];
        words.extend(li(t, self.msr() & !PR));
        words.extend([mtmsr(t), ISYNC, mfmsr(self.target())]);
        words.into()
    }

    pub(super) fn enter_user(&mut self) -> Unit {
        self.user = true;
        let msr = self.msr();
        self.user = false;
        let t = self.scratch();
        let mut words = vec![SC, addis(t, 0, 0), ori(t, t, 0), mtspr(SRR0, t)];
        words.extend(li(t, msr));
        words.extend([mtspr(SRR1, t), RFI]);
        Unit { words, open: Some(Open::Address(1, self.rng.of(&[0, 0, CODE_ALIAS]))) }
    }

    /// The decrementer goes below 0, which interrupts as soon as MSR\[EE\] is 1.
    pub(super) fn decrementer(&mut self) -> Unit {
        let t = self.scratch();
        let mut words = vec![SC];
        words.extend(li(t, 0x7fff_ffff));
        words.push(mtspr(DEC, t));
        words.extend(li(t, 0x8000_0000 | self.rng.next() as u32 & 0x3fff_ffff));
        words.push(mtspr(DEC, t));
        words.push(self.plain());
        words.extend(li(t, 0x7fff_ffff));
        words.push(mtspr(DEC, t));
        words.extend(li(t, self.msr() & !PR | EE));
        words.extend([mtmsr(t), ISYNC]);
        words.into()
    }

    /// To where no program is.
    pub(super) fn wild(&mut self) -> Unit {
        let t = self.scratch();
        let goal = match self.rng.below(4) {
            0 => 0xd000_0000 | self.rng.below(0x10_0000) << 2,
            1 => 0xe000_0000 | self.rng.next() as u32 & 0x0fff_fffc,
            2 => LOW + (self.rng.below(0x1000) << 2),
            _ => 0xdfff_fffc,
        };
        let mut words = vec![SC];
        words.extend(li(t, goal));
        words.push(mtspr(SRR0, t));
        words.extend(li(t, self.msr() | IR));
        words.extend([mtspr(SRR1, t), RFI]);
        words.into()
    }
}
