//! Units of floating point.

use super::*;

/// An instruction of opcode 59 or 63.
const fn a_form(op: u32, extended: u32, d: u32, a: u32, b: u32, c: u32) -> u32 {
    op << 26 | d << 21 | a << 16 | b << 11 | c << 6 | extended << 1
}

impl Generator<'_> {
    /// A number of a kind that matters.
    fn double(&mut self) -> [u32; 2] {
        const HIGH: [u32; 16] = [
            0,
            0x8000_0000,
            0x3ff0_0000,
            0xbff0_0000,
            0x7ff0_0000,
            0xfff0_0000,
            0x7ff8_0000,
            0x7ff0_0001,
            0xfff4_0000,
            0x000f_ffff,
            0x0010_0000,
            0x7fef_ffff,
            0x47ef_ffff,
            0x380f_ffff,
            0x36a0_0000,
            0x41e0_0000,
        ];
        let low = self.rng.of(&[0, 0, 0, 0xe000_0000, 0xffff_ffff, 1, 0x1000_0000, 0x2000_0000]);
        match self.rng.below(4) {
            0 => [self.rng.edge(), self.rng.edge()],
            1 => {
                // Numbers that meet others.
                let near = 0x3ff + self.rng.below(64) - 32;
                [near << 20 | self.rng.next() as u32 & 0x800f_ffff, self.rng.next() as u32]
            }
            2 => [self.rng.of(&HIGH) | self.rng.below(2) << 31, low],
            _ => {
                // About where singles end.
                let exponent = self.rng.of(&[896, 1150, 873, 1151, 897, 1054, 1]) + self.rng.below(5);
                [exponent << 20 | self.rng.next() as u32 & 0x800f_ffff, low]
            }
        }
    }

    pub(super) fn float(&mut self) -> Unit {
        let [fa, fb, fc, fd] = [(); 4].map(|()| self.rng.below(32));
        let (op, rc) = (self.rng.of(&[59, 63]), self.rc());
        match self.rng.below(40) {
            0..3 => in_range(op, a_form(op, 18, fd, fa, fb, 0) | rc),
            3..8 => (a_form(op, self.rng.of(&[20, 21]), fd, fa, fb, 0) | rc).into(),
            8..11 => in_range(op, a_form(op, 25, fd, fa, 0, fc) | rc),
            11..15 => in_range(op, a_form(op, self.rng.of(&[28, 29]), fd, fa, fb, fc) | rc),
            15 | 16 => {
                // Negated before it is rounded in QEMU, so not with rounding up or down.
                let mode = xop(63, 134, 28, 0, self.rng.below(2) << 1);
                let mut words = vec![mode];
                words.extend(quiet_range(op));
                words.push(a_form(op, self.rng.of(&[30, 31]), fd, fa, fb, fc) | rc);
                words.into()
            }
            17 => (a_form(63, 23, fd, fa, fb, fc) | rc).into(),
            18 => {
                // FPSCR[XE] would count in QEMU; and where an enabled underflow interrupts, FI, which is open, is not left out.
                let estimate =
                    if op == 59 { a_form(59, 24, fd, 0, fb, 0) } else { a_form(63, 26, fd, 0, fb, 0) };
                vec![xop(63, 70, 28, 0, 0), xop(63, 70, 26, 0, 0), estimate | rc].into()
            }
            19..21 => (xop(63, self.rng.of(&[12, 14, 15]), fd, 0, fb) | rc).into(),
            21 => (xop(63, self.rng.of(&[40, 72, 136, 264]), fd, 0, fb) | rc).into(),
            22..24 => xop(63, self.rng.of(&[0, 32]), fd & 0x1c, fa, fb).into(),
            24..27 => self.fpscr(),
            27..31 => {
                let t = self.scratch();
                let at = self.rng.below(0x1000) << 3 & 0x7ef8;
                let mut words = Vec::new();
                for (n, word) in (0..).zip(self.double()) {
                    words.extend(li(t, word));
                    words.push(stw(t, OWN_BASE, at + 4 * n));
                }
                words.push(d(50, fd, OWN_BASE, at));
                words.into()
            }
            31..35 => {
                let op = self.rng.of(&[48, 50, 52, 54]);
                let (base, at) = self.address(4, true);
                d(op, fd, base, at).into()
            }
            35 | 36 => {
                let t = self.scratch();
                let op = self.rng.of(&[49, 51, 53, 55]);
                let (base, at) = self.address(4, true);
                vec![addi(t, base, at & 0xff00), d(op, fd, t, at & 0xfc)].into()
            }
            _ => {
                let t = self.scratch();
                let (base, at) = self.address(4, true);
                let index = addi(t, 0, at);
                let op = self.rng.of(&[535, 599, 663, 727, 983]);
                if op != 983 && self.rng.one_in(2) {
                    let a = self.scratch_beside(t);
                    return vec![self.copy_of(a, base), index, x(op | 32, fd, a, t)].into();
                }
                vec![index, x(op, fd, base, t)].into()
            }
        }
    }

    /// FPSCR's own instructions.
    fn fpscr(&mut self) -> Unit {
        let (fb, fd, rc) = (self.rng.below(32), self.rng.below(32), self.rc());
        let field = self.rng.below(8) << 2;
        let loud = self.float_exceptions;
        match self.rng.below(12) {
            0 | 1 => (xop(63, 583, fd, 0, 0) | rc).into(),
            2 => xop(63, 64, field, self.rng.below(8) << 2, 0).into(),
            3 => (xop(63, self.rng.of(&[38, 70]), self.bit(), 0, 0) | rc).into(),
            4 => (xop(63, 70, self.rng.below(32), 0, 0) | rc).into(),
            5 => {
                // Not the enabling bits, which stay for long.
                let field = self.rng.of(&[0, 4, 8, 12, 16, 28]);
                let imm = if field == 28 { self.rng.below(4) } else { self.rng.below(16) };
                (xop(63, 134, field, 0, imm << 1) | rc).into()
            }
            6 => {
                let fields = self.rng.below(256) & 0xfc;
                (63 << 26 | fields << 17 | fb << 11 | 711 << 1 | rc).into()
            }
            7 | 8 => {
                // Nothing enabled, and a rounding mode.
                let mode = self.rng.below(4);
                vec![xop(63, 134, 24, 0, 0), xop(63, 134, 28, 0, mode << 1) | rc].into()
            }
            9 if loud => (xop(63, 134, 24, 0, self.rng.of(&[0, 1, 2, 4, 6, 8, 9, 15]) << 1) | rc).into(),
            _ => (xop(63, 583, fd, 0, 0) | rc).into(),
        }
    }

    /// A bit of FPSCR that is set or cleared.
    fn bit(&mut self) -> u32 {
        // What enables exceptions seldom, the bit that leaves IEEE's rules never.
        match self.rng.below(32) {
            29 => 30,
            24..29 if !self.float_exceptions => 31,
            n => n,
        }
    }
}

/// Neither overflow nor underflow enabled for a single result: operands are any doubles, which is open, and their product may
/// leave the range of doubles too.
fn quiet_range(op: u32) -> Vec<u32> {
    if op == 59 { vec![xop(63, 70, 25, 0, 0), xop(63, 70, 26, 0, 0)] } else { Vec::new() }
}

fn in_range(op: u32, word: u32) -> Unit {
    let mut words = quiet_range(op);
    words.push(word);
    words.into()
}
