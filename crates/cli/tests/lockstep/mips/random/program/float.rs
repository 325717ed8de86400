//! Units of floating point.

use super::*;

impl Generator<'_> {
    /// A register of the FPU: where doubles are pairs, an odd one seldom.
    pub(super) fn fpr(&mut self) -> u32 {
        let n = self.rng.below(32);
        if self.whole || self.rng.one_in(40) { n } else { n & !1 }
    }

    pub(super) fn float(&mut self) -> Unit {
        let (fs, ft, fd, fr) = (self.fpr(), self.fpr(), self.fpr(), self.fpr());
        let format = self.rng.of(&[16, 17]);
        let cop1 =
            |rs: u32, rt: u32, rd: u32, sa: u32, function: u32| 0x11 << 26 | r(function, rs, rt, rd, sa);
        let code = self.rng.below(8) << 2;
        // What these do with half a double is unpredictable, and not reserved.
        let even = if self.whole { !0 } else { !1 };
        let words = match self.rng.below(40) {
            32..36 => vec![cop1(format, ft, fs, code, 0x30 + self.rng.below(16))],
            36 | 37 => vec![cop1(format, 0, fs, fd, self.rng.of(&[4, 5, 6, 7, 0x15, 0x16]))],
            38 => vec![cop1(format, self.source(), fs & even, fd & even, 0x12 + self.rng.below(2))],
            0..7 => vec![cop1(format, ft, fs, fd, self.rng.below(4))],
            7..9 => vec![cop1(format, 0, fs, fd, self.rng.of(&[4, 5, 6, 7, 0x15, 0x16]))],
            9..12 => {
                let function = self.rng.of(&[8, 9, 10, 11, 12, 13, 14, 15, 0x24, 0x25]);
                // 64-bit integers want whole registers.
                let long = function < 12 || function == 0x25;
                let function = if long && !self.whole && !self.rng.one_in(10) { 0x24 } else { function };
                vec![cop1(format, 0, fs, fd, function)]
            }
            12..14 => {
                let wide = self.whole || self.rng.one_in(20);
                match self.rng.below(if wide { 6 } else { 4 }) {
                    0 => vec![cop1(16, 0, fs, fd, 0x21)],
                    1 => vec![cop1(17, 0, fs, fd, 0x20)],
                    2 => vec![cop1(20, 0, fs, fd, 0x20)],
                    3 => vec![cop1(20, 0, fs, fd, 0x21)],
                    n => vec![cop1(21, 0, fs, fd, 0x20 + n % 2)],
                }
            }
            14..17 => vec![cop1(format, ft, fs, code, 0x30 + self.rng.below(16))],
            17 => match self.rng.below(3) {
                0 => vec![cop1(format, code | self.rng.below(2), fs & even, fd & even, 0x11)],
                1 => vec![cop1(format, self.source(), fs & even, fd & even, 0x12 + self.rng.below(2))],
                _ => vec![r(1, self.source(), code | self.rng.below(2), self.target(), 0)],
            },
            18 => {
                let word = cop1(8, code | self.rng.below(4), 0, 0, 0);
                let slot = self.slot();
                return self.open(vec![word, slot], Open::Branch(0));
            }
            19..22 => {
                let op = self.rng.of(&[0x31, 0x35, 0x39, 0x3d]);
                let (base, at) = self.address(if op & 4 == 0 { 4 } else { 8 });
                vec![i(op, base, if op & 4 == 0 { ft } else { ft & even }, at)]
            }
            22 => {
                let (base, at) = self.address(8);
                let t = self.scratch();
                let function = self.rng.of(&[0x00, 0x01, 0x05, 0x05, 0x08, 0x09, 0x0d, 0x0d, 0x0f]);
                // The unaligned ones want whole registers.
                let function = if self.whole || self.rng.one_in(8) { function } else { function & !4 };
                let function = if function == 0x0b { 0x0f } else { function };
                let (rd, sa) = if function >= 8 { (fs & even, 0) } else { (0, fd & even) };
                let mut words = li(t, (at as i16 as i32) as u32).to_vec();
                words.push(0x13 << 26 | r(function, base, t, rd, sa));
                words
            }
            23..25 => {
                let function = self.rng.of(&[0x20, 0x21, 0x28, 0x29, 0x30, 0x31, 0x38, 0x39]);
                vec![0x13 << 26 | r(function, fr, ft, fs, fd)]
            }
            25..28 => {
                let t = self.scratch();
                let mut words = li(t, self.rng.edge()).to_vec();
                let high = self.rng.one_in(2);
                words.push(cop1(if high { 7 } else { 4 }, t, self.rng.below(32), 0, 0));
                words
            }
            28..30 => {
                let rs = self.rng.of(&[0, 3]);
                vec![cop1(rs, self.target(), self.rng.below(32), 0, 0)]
            }
            30 => vec![cop1(2, self.target(), self.rng.of(&[0, 25, 26, 28, 31, 31]), 0, 0)],
            _ => {
                let t = self.scratch();
                let (control, value) = match self.rng.below(6) {
                    0 => (25, self.rng.below(256)),
                    1 => (26, self.rng.next() as u32 & 0x0003_f07c),
                    2 => (28, self.rng.below(4) | self.rng.of(&[0, 0, 4])),
                    // No exceptions, most of the time.
                    3 => (31, self.rng.next() as u32 & 0xff83_ffff),
                    _ => (31, self.rng.next() as u32 & 0xff80_007f),
                };
                let mut words = li(t, value).to_vec();
                words.push(cop1(6, t, control, 0, 0));
                words
            }
        };
        self.unit(words)
    }
}
