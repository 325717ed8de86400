//! Units of coprocessor 0: registers, the TLB, modes, interrupts; and of code that is written, reserved or nowhere.

use super::*;

impl Generator<'_> {
    pub(super) fn read_cp0(&mut self) -> Unit {
        let rt = self.target();
        // What is not among these is not there, and undefined.
        let word = if self.rng.one_in(8) { TLBP } else { mfc0(rt, self.rng.of(CP0)) };
        self.unit(vec![word])
    }

    pub(super) fn write_cp0(&mut self) -> Unit {
        const WRITTEN: [(u32, u32); 18] = [
            INDEX,
            ENTRY_LO0,
            ENTRY_LO1,
            CONTEXT,
            WIRED,
            HWR_ENA,
            (8, 0),
            COMPARE,
            INT_CTL,
            EPC,
            CONFIG,
            ERROR_EPC,
            (17, 0),
            (15, 0),
            (16, 1),
            (1, 0),
            (31, 0),
            (9, 0),
        ];
        let (from, register) = (self.scratch(), self.rng.of(&WRITTEN));
        let value = match register {
            // What there is no entry for is undefined.
            INDEX | WIRED => self.rng.below(ENTRIES),
            _ => self.rng.edge(),
        };
        let mut words = li(from, value).to_vec();
        words.extend([mtc0(from, register), EHB]);
        if self.rng.one_in(2) {
            words.push(mfc0(self.target(), register));
        }
        self.unit(words)
    }

    /// What EntryLo is made of: a page of the data, and attributes.
    pub(super) fn lo(&mut self, clean: bool) -> u32 {
        let frame = 0x20 + self.rng.below(16);
        let dirty = u32::from(!clean && !self.rng.one_in(4));
        let valid = u32::from(!self.rng.one_in(5));
        frame << 6 | self.rng.of(&[2, 3, 3, 0]) << 3 | dirty << 2 | valid << 1 | self.rng.below(2)
    }

    pub(super) fn entry(&mut self, index: u32) -> Entry {
        // Of pages that are larger than what lies there nothing is written.
        let mask = match self.rng.below(8) {
            0..4 => 0,
            4 => 0x6000,
            5 => 0x1_e000,
            _ if index == 14 => {
                self.rng.of(&[0x7_e000, 0x1f_e000, 0x7f_e000, 0x1ff_e000, 0x7ff_e000, 0x1fff_e000])
            }
            _ => 0,
        };
        let (a, b) = (self.lo(mask > 0x6000), self.lo(mask > 0x6000));
        let hi = place(index) | self.rng.below(4) | self.rng.below(2) << 13;
        [hi, a, b, mask]
    }

    pub(super) fn first_entry(&mut self, index: u32) -> Entry {
        let global = |frame: u32| frame << 6 | 3 << 3 | 7;
        match index {
            0 => [0x1_0000, global(0x10), global(0x11), 0],
            1 => [0x2_0000, global(0x20), global(0x30), 0x1_e000],
            _ if self.rng.one_in(4) => unused(index),
            _ => self.entry(index),
        }
    }

    /// Something with the TLB.
    pub(super) fn translate(&mut self) -> Unit {
        let t = self.scratch();
        let mut words = Vec::new();
        let set = |words: &mut Vec<u32>, register, value| {
            words.extend(li(t, value));
            words.push(mtc0(t, register));
        };
        match self.rng.below(5) {
            0 => {
                set(&mut words, INDEX, self.rng.below(16));
                words.extend([EHB, TLBR, EHB]);
                let register = self.rng.of(&[ENTRY_HI, ENTRY_LO0, ENTRY_LO1, PAGE_MASK]);
                words.push(mfc0(self.target(), register));
                // The address space and the page size are what the program goes on with.
                set(&mut words, ENTRY_HI, self.rng.below(4));
            }
            1 => {
                let index = OWN_ENTRIES + self.rng.below(14);
                let of = place(index) + self.rng.below(2) * 0x2000 + self.rng.below(4);
                set(&mut words, ENTRY_HI, of);
                words.extend([EHB, TLBP, EHB, mfc0(self.target(), INDEX)]);
            }
            2 if self.rng.one_in(2) => {
                // With all others wired Random is the last one. What was there is put out of reach first.
                set(&mut words, WIRED, 15);
                set(&mut words, INDEX, 15);
                let [hi, ..] = unused(15);
                set(&mut words, ENTRY_HI, hi);
                words.extend([EHB, TLBWI]);
                let [hi, lo0, lo1, mask] = self.entry(15);
                set(&mut words, PAGE_MASK, mask);
                set(&mut words, ENTRY_LO0, lo0);
                set(&mut words, ENTRY_LO1, lo1);
                set(&mut words, ENTRY_HI, hi);
                words.extend([EHB, TLBWR]);
                set(&mut words, ENTRY_HI, self.rng.below(4));
            }
            _ => {
                let index = OWN_ENTRIES + self.rng.below(13);
                let [hi, lo0, lo1, mask] = self.entry(index);
                set(&mut words, INDEX, index);
                set(&mut words, PAGE_MASK, mask);
                set(&mut words, ENTRY_LO0, lo0);
                set(&mut words, ENTRY_LO1, lo1);
                set(&mut words, ENTRY_HI, hi);
                words.extend([EHB, TLBWI]);
                if self.rng.one_in(2) {
                    set(&mut words, ENTRY_HI, self.rng.below(4));
                }
            }
        }
        self.unit(words)
    }

    /// An access through an entry of the TLB, or where there is none, or to another segment.
    pub(super) fn far_access(&mut self) -> Unit {
        let t = self.scratch();
        let store = self.rng.one_in(3);
        let at = match self.rng.below(10) {
            // No stores but to the data: what is elsewhere may be the program's own ground.
            0 if !store => 0x8000_0000 | self.rng.below(0x4_0000),
            1 => 0x7ff0_0000 | self.rng.below(0x1_0000),
            2 => 0xd000_0000 | self.rng.below(0x1_0000),
            _ => {
                let index = OWN_ENTRIES + self.rng.below(14);
                place(index) + self.rng.below(if index == 14 { 1 << 26 } else { 0x4000 })
            }
        };
        let at = if self.rng.one_in(10) { at } else { at & !3 };
        let (low, high) = (at & 0x7fff, at & !0x7fff);
        let op = match store {
            true => self.rng.of(&[0x28, 0x29, 0x2a, 0x2b, 0x2e, 0x2b]),
            false => self.rng.of(&[0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x30, 0x23]),
        };
        let rt = self.scratch();
        self.unit(vec![lui(t, high >> 16), ori(t, t, high & 0xffff), i(op, t, rt, low)])
    }

    /// An interrupt by software, which comes if Status allows it.
    pub(super) fn interrupt(&mut self) -> Unit {
        let t = self.scratch();
        let mut words = li(t, self.status() | 1 | self.rng.below(4) << 8).to_vec();
        words.push(mtc0(t, STATUS));
        let cause = COUNT_STOPS | self.rng.below(4) << 8 | self.rng.below(2) << 23;
        words.extend(li(t, cause));
        words.extend([mtc0(t, CAUSE), EHB, NOP]);
        words.extend(li(t, COUNT_STOPS));
        words.extend([mtc0(t, CAUSE), EHB]);
        self.unit(words)
    }

    /// Status in the mode that units are made for, without an exception.
    pub(super) fn status(&mut self) -> u32 {
        let cp0 = if self.user && !self.rng.one_in(4) { 0 } else { KERNEL };
        let mode = if self.user { self.rng.of(&[0x10, 0x10, 0x08]) } else { 0 };
        cp0 | mode | self.rng.below(4) << 8 | self.fpu_bits()
    }

    pub(super) fn set_status(&mut self) -> Unit {
        let t = self.scratch();
        // Not where handlers are, not the error level, not what only a reset sets, not the FPU.
        let bits = self.rng.edge() & !0x2478_001c;
        let value = self.status() | bits;
        let mut words = li(t, value).to_vec();
        words.extend([mtc0(t, STATUS), EHB, mfc0(self.target(), STATUS)]);
        words.extend(li(t, self.status()));
        words.extend([mtc0(t, STATUS), EHB]);
        self.unit(words)
    }

    /// The error level, where kuseg is not translated.
    pub(super) fn error_level(&mut self) -> Unit {
        let (t, a) = (self.scratch(), self.rng.of(&[1, 2]));
        let t = if t == a { 3 } else { t };
        let mut words = li(a, 0x2_0000 | self.rng.below(0x4000) << 2).to_vec();
        words.extend(li(t, KERNEL | self.whole_bit() | 4 | self.rng.below(2) << 1));
        words.extend([mtc0(t, STATUS), EHB, lw(t, a, 0), mfc0(self.target(), STATUS)]);
        words.extend(li(t, self.status()));
        words.extend([mtc0(t, STATUS), EHB]);
        self.unit(words)
    }

    pub(super) fn enter_user(&mut self) -> Unit {
        let t = self.scratch();
        self.user = true;
        let status = self.status() | 2 | self.rng.below(2);
        let mut words = vec![lui(t, 0), ori(t, t, 0), mtc0(t, EPC)];
        words.extend(li(t, status));
        words.extend([mtc0(t, STATUS), EHB, ERET]);
        let unit = self.open(words, Open::Address(0));
        self.user = false;
        unit
    }

    pub(super) fn exception_return(&mut self) -> Unit {
        let t = self.scratch();
        let error = self.rng.one_in(3);
        let mut words = vec![lui(t, 0), ori(t, t, 0), mtc0(t, if error { ERROR_EPC } else { EPC })];
        let level = if error { 4 | self.rng.below(2) << 1 } else { 2 };
        words.extend(li(t, self.status() | level));
        words.extend([mtc0(t, STATUS), EHB, ERET]);
        self.open(words, Open::Address(0))
    }

    pub(super) fn wait(&mut self) -> Unit {
        let t = self.scratch();
        let mut words = li(t, self.status() & !0x301 | 0x100).to_vec();
        words.push(mtc0(t, STATUS));
        words.extend(li(t, COUNT_STOPS | 0x100));
        words.extend([mtc0(t, CAUSE), EHB, EI, WAIT, NOP]);
        words.extend(li(t, COUNT_STOPS));
        words.extend([mtc0(t, CAUSE), EHB]);
        self.unit(words)
    }

    /// Writes another instruction over one a little further on.
    pub(super) fn rewrite(&mut self) -> Unit {
        let (t, a) = (self.scratch(), self.scratch());
        let a = if a == t { 1 + t % 25 } else { a };
        let new = self.plain();
        let old = self.plain();
        let link = Self::own_address(a);
        // The address register has that of the word that sets it; the new instruction goes five words on.
        let words =
            [&li(t, new)[..], &link[..], &[sw(t, a, 20), i(0x01, a, 0x1f, 20), EHB, NOP, old]].concat();
        self.unit(words)
    }

    /// `a` becomes the address of the last of these.
    pub(super) fn own_address(a: u32) -> [u32; 3] {
        // bal to the third one, which is: move a, ra.
        [i(0x01, 0, 0x11, 1), NOP, r(0x21, 31, 0, a, 0)]
    }

    pub(super) fn reserved(&mut self) -> u32 {
        loop {
            let word = self.rng.next() as u32;
            let word = match self.rng.below(4) {
                0 => word & 0x03ff_ffff,
                1 => word & 0x03ff_ffff | 0x1f << 26,
                2 => word & 0x03ff_ffff | 0x1c << 26,
                _ => word,
            };
            if mnemonic(word).is_none() && !is_branch(word) && !self.masks.leaves_out_word(word) {
                return word;
            }
        }
    }

    /// A jump to where no program is.
    pub(super) fn wild(&mut self) -> Unit {
        let t = self.scratch();
        let goal = match self.rng.below(5) {
            0 => PROGRAM + 4 * self.rng.below(512) + 2,
            1 => 0x7ff0_0000 | self.rng.below(0x1000) << 2,
            2 => 0xc800_0000 | self.rng.below(0x1000) << 2,
            3 => (PROGRAM & 0x1fff_ffff) + 4 * self.rng.below(512) + 2,
            _ => place(OWN_ENTRIES + self.rng.below(14)) | 0x10_0000,
        };
        let slot = self.slot();
        let mut words = li(t, goal).to_vec();
        words.extend([r(0x08, t, 0, 0, 0), slot]);
        self.unit(words)
    }
}
