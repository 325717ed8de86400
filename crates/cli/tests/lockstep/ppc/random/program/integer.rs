//! Units of the user's instruction set, floating point excepted.

use super::*;

impl Generator<'_> {
    /// One that touches registers only and cannot fault.
    pub(super) fn plain(&mut self) -> u32 {
        let (a, b, t) = (self.source(), self.source(), self.target());
        let rc = self.rc();
        match self.rng.below(24) {
            0..7 => {
                let op = self.rng.of(&[8, 10, 40, 136, 138, 235, 266, 459, 491]);
                x(op | self.rng.below(2) << 9, t, a, b) | rc
            }
            7..9 => x(self.rng.of(&[104, 200, 202, 232, 234]) | self.rng.below(2) << 9, t, a, 0) | rc,
            9 => x(self.rng.of(&[11, 75]), t, a, b) | rc,
            10..13 => x(self.rng.of(&[28, 60, 124, 284, 316, 412, 444, 476]), a, t, b) | rc,
            13..15 => x(self.rng.of(&[24, 536, 792, 824]), a, t, b) | rc,
            15 => x(self.rng.of(&[26, 922, 954]), a, t, 0) | rc,
            16..18 => d(self.rng.of(&[7, 8, 12, 13, 14, 15]), t, a, self.rng.edge()),
            18 => d(self.rng.of(&[24, 25, 26, 27, 28, 29]), a, t, self.rng.edge()),
            19..21 => {
                let (begin, end) = (self.rng.below(32), self.rng.below(32));
                m(self.rng.of(&[20, 21, 23]), a, t, b, begin, end) | rc
            }
            21 => {
                let field = self.rng.below(8) << 2;
                match self.rng.below(4) {
                    0 => x(0, field, a, b),
                    1 => x(32, field, a, b),
                    op => d(8 + op, field, a, self.rng.edge()),
                }
            }
            22 => match self.rng.below(6) {
                0 => x(19, t, 0, 0),
                1 | 2 => x(144, a, 0, 0) | self.rng.below(256) << 12,
                3 => x(512, self.rng.below(8) << 2, 0, 0),
                4 => mfspr(t, self.rng.of(&[XER, LR, CTR])),
                _ => mtspr(self.rng.of(&[LR, CTR]), a),
            },
            _ => self.rng.of(&[SYNC, x(854, 0, 0, 0), ISYNC, NOP]),
        }
    }

    pub(super) fn condition_logic(&mut self) -> u32 {
        let (t, a, b) = (self.rng.below(32), self.rng.below(32), self.rng.below(32));
        match self.rng.below(10) {
            0 => xop(19, 0, t & 0x1c, a & 0x1c, 0),
            _ => xop(19, self.rng.of(&[33, 129, 193, 225, 257, 289, 417, 449]), t, a, b),
        }
    }

    pub(super) fn trap(&mut self) -> u32 {
        let (a, b) = (self.source(), self.source());
        // A condition that does not hold more often than not.
        let to = if self.rng.one_in(3) { self.rng.below(32) } else { self.rng.of(&[0, 0, 4, 2, 1]) };
        if self.rng.one_in(2) { x(4, to, a, b) } else { d(3, to, a, self.rng.edge()) }
    }

    /// The register and displacement of an access of `size` bytes to the data.
    pub(super) fn address(&mut self, size: u32, aligned: bool) -> (u32, u32) {
        let at = self.rng.next() as u32 & 0xffff;
        let at = if aligned || !self.rng.one_in(12) { at & !(size.min(4) - 1) } else { at };
        if self.rng.one_in(16) {
            return (0, LOW + (at & 0x3fff).min(0x3f00));
        }
        // Not beyond the end.
        let at = if at & 0x8000 == 0 { at.min(0x7f00) } else { at };
        (self.base(), at)
    }

    pub(super) fn base(&mut self) -> u32 {
        self.rng.of(&[OWN_BASE, OWN_BASE, PAGE_BASE, PAGE_BASE, PAGE_BASE, BLOCK_BASE])
    }

    pub(super) fn access(&mut self) -> u32 {
        let (op, size) =
            self.rng.of(&[(34, 1), (40, 2), (42, 2), (32, 4), (32, 4), (38, 1), (44, 2), (36, 4), (36, 4)]);
        let register = if matches!(op, 36 | 38 | 44) { self.source() } else { self.target() };
        let (base, at) = self.address(size, false);
        d(op, register, base, at)
    }

    /// With an index, or with an update.
    pub(super) fn indexed(&mut self) -> Unit {
        const D_FORMS: [(u32, u32, bool); 7] = [
            (35, 1, true),
            (41, 2, true),
            (43, 2, true),
            (33, 4, true),
            (39, 1, false),
            (45, 2, false),
            (37, 4, false),
        ];
        const X_FORMS: [(u32, u32, bool); 11] = [
            (23, 4, true),
            (87, 1, true),
            (279, 2, true),
            (343, 2, true),
            (151, 4, false),
            (215, 1, false),
            (407, 2, false),
            (534, 4, true),
            (790, 2, true),
            (662, 4, false),
            (918, 2, false),
        ];
        let t = self.scratch();
        if self.rng.one_in(3) {
            let (op, size, load) = self.rng.of(&D_FORMS);
            let (base, at) = self.address(size, false);
            let register = if load { self.target_beside(t) } else { self.source() };
            return vec![addi(t, base, at & 0xff00), d(op, register, t, at & 0xff)].into();
        }
        let (op, size, load) = self.rng.of(&X_FORMS);
        let (base, at) = self.address(size, false);
        let index = addi(t, 0, at);
        // Not the byte-reversed ones.
        if op < 500 && self.rng.one_in(2) {
            let a = self.scratch_beside(t);
            let register = if load { self.target_beside(a) } else { self.source() };
            return vec![self.copy_of(a, base), index, x(op | 32, register, a, t)].into();
        }
        let register = if load { self.target() } else { self.source() };
        vec![index, x(op, register, base, t)].into()
    }

    /// A base in a register that may be changed.
    pub(super) fn copy_of(&self, a: u32, base: u32) -> u32 {
        if base == 0 { addi(a, 0, 0) } else { x(444, base, a, base) }
    }

    fn target_beside(&mut self, other: u32) -> u32 {
        loop {
            let n = self.target();
            if n != other {
                return n;
            }
        }
    }

    pub(super) fn multiple(&mut self) -> Unit {
        let (base, at) = self.address(4, true);
        if self.rng.one_in(2) {
            return d(47, self.source(), base, at).into();
        }
        let (t, first) = (self.scratch(), 24 + self.rng.below(8));
        let mut words = vec![addi(t, base, at), d(46, first, t, 0)];
        // It has loaded those that lead to the data.
        for (n, value) in BASES {
            words.extend(li(n, value));
        }
        words.into()
    }

    pub(super) fn string(&mut self) -> Unit {
        let (base, at) = self.address(1, false);
        let t = self.scratch();
        let load = self.rng.one_in(2);
        // Up to eight registers, which do not lead to the data.
        let first = if load { self.rng.of(&[31, 0, 1, 5, 10, 15, 19, 20]) } else { self.source() };
        let mut words = Vec::new();
        if self.rng.one_in(2) {
            let bytes = self.rng.below(32);
            words.push(addi(t, base, at));
            // The address among them would be invalid.
            let t = if load && loads(first, bytes, t) { OWN_BASE } else { t };
            words.push(x(if load { 597 } else { 725 }, first, t, bytes));
        } else {
            let bytes = if load { 1 + self.rng.below(32) } else { self.rng.below(0x80) };
            words.extend(li(t, self.rng.next() as u32 & 0xe000_0000 | bytes));
            words.extend([mtspr(XER, t), addi(t, 0, at)]);
            let (a, b) = if load && loads(first, bytes, t) { (0, OWN_BASE) } else { (base, t) };
            words.push(x(if load { 533 } else { 661 }, first, a, b));
        }
        words.into()
    }

    pub(super) fn linked(&mut self) -> Unit {
        // Where a store cannot fault: without a reservation its address need not be looked at.
        let at = self.rng.next() as u32 & 0x7ffc;
        let t = self.scratch();
        if self.rng.one_in(8) {
            // Misaligned. QEMU sets bits of DSISR that were not 0.
            let (at, loaded) = (at + 1 + self.rng.below(3), self.target());
            return vec![SC, addi(t, 0, 0), mtspr(DSISR, t), addi(t, 0, at), x(20, loaded, OWN_BASE, t)]
                .into();
        }
        let mut words = vec![addi(t, 0, at)];
        if !self.rng.one_in(8) {
            words.push(x(20, self.target_beside(t), OWN_BASE, t));
        }
        if self.rng.one_in(4) {
            words.push(x(266, 24, 25, 26));
        }
        if self.rng.one_in(6) {
            words.push(addi(t, t, 4));
        }
        if !self.rng.one_in(6) {
            words.push(x(150, self.source(), OWN_BASE, t) | 1);
        }
        words.into()
    }

    pub(super) fn cache(&mut self) -> Unit {
        let t = self.scratch();
        let (base, at) = self.address(4, true);
        // dcbz more often than the rest.
        let op = self.rng.of(&[54, 86, 246, 278, 982, 1014, 1014, 470]);
        // For QEMU dcbi loads before it stores, which shows where it must not.
        let base = if op == 470 { OWN_BASE } else { base };
        vec![addi(t, 0, at), x(op, 0, base, t)].into()
    }

    /// What BO can be without reserved bits.
    fn bo(&mut self, counts: bool) -> u32 {
        const COUNTING: [u32; 8] = [0, 1, 2, 3, 8, 9, 10, 11];
        const OTHERS: [u32; 5] = [4, 5, 12, 13, 20];
        const ONLY: [u32; 4] = [16, 17, 18, 19];
        match self.rng.below(3) {
            0 if counts => self.rng.of(&COUNTING),
            1 if counts => self.rng.of(&ONLY),
            _ => self.rng.of(&OTHERS),
        }
    }

    pub(super) fn branch(&mut self) -> Unit {
        let link = self.rc();
        if self.rng.one_in(5) {
            let absolute = self.rng.below(2) << 1;
            return Unit { words: vec![18 << 26 | absolute | link], open: Some(Open::Branch(0)) };
        }
        let (bo, bi) = (self.bo(true), self.rng.below(32));
        if self.rng.one_in(40) {
            // To where no program is.
            let at = LOW + (self.rng.below(0x4000) & !3);
            return d(16, bo, bi, at | 2 | link).into();
        }
        Unit { words: vec![d(16, bo, bi, link)], open: Some(Open::Conditional(0)) }
    }

    pub(super) fn jump(&mut self) -> Unit {
        let (t, link) = (self.scratch(), self.rc());
        let count = self.rng.one_in(2);
        let (bo, bi) = (self.bo(!count), self.rng.below(32));
        let (register, op) = if count { (CTR, 528) } else { (LR, 16) };
        let alias = self.rng.of(&[0, 0, CODE_ALIAS, CODE_ALIAS, BLOCK_ALIAS]);
        let words = vec![addis(t, 0, 0), ori(t, t, 0), mtspr(register, t), xop(19, op, bo, bi, 0) | link];
        Unit { words, open: Some(Open::Address(0, alias)) }
    }

    /// Writes another instruction over one a little further on.
    pub(super) fn rewrite(&mut self) -> Unit {
        let t = self.scratch();
        let a = self.scratch_beside(t);
        let (new, old) = (self.plain(), self.plain());
        let mut words = vec![addis(a, 0, 0), ori(a, a, 0)];
        words.extend(li(t, new));
        // dcbst, icbi
        words.extend([stw(t, a, 0), x(54, 0, 0, a), SYNC, x(982, 0, 0, a), SYNC, ISYNC, old]);
        Unit { words, open: Some(Open::Own(0)) }
    }

    pub(super) fn illegal(&mut self) -> u32 {
        const OPCODES: [u32; 21] =
            [0, 1, 2, 4, 5, 6, 9, 19, 22, 30, 31, 31, 31, 56, 57, 58, 59, 60, 61, 62, 63];
        loop {
            let word = self.rng.next() as u32 & 0x03ff_ffff | self.rng.of(&OPCODES) << 26;
            // The time base's instruction with another register is mfspr in QEMU.
            let time = word & 0xfc00_07fe == 0x7c00_02e6;
            if mnemonic(word).is_none() && !time && !self.masks.leaves_out_word(word) {
                return word;
            }
        }
    }
}

/// Whether a string of so many bytes is loaded to a register.
fn loads(first: u32, bytes: u32, register: u32) -> bool {
    let bytes = if bytes == 0 { 32 } else { bytes };
    register.wrapping_sub(first) & 31 < bytes.div_ceil(4)
}
