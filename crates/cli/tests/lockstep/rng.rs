//! Numbers by chance, the same everywhere.

/// splitmix64.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }

    /// Once in `n`.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }

    /// A word, edges more often than others; those of floating point too.
    pub fn edge(&mut self) -> u32 {
        const EDGES: [u32; 20] = [
            0,
            1,
            2,
            3,
            31,
            32,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            0xffff_ffff,
            0xffff_fffe,
            0xffff_8000,
            0x0001_0000,
            0xaaaa_5555,
        ];
        const FLOATS: [u32; 14] = [
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7fbf_ffff,
            0x7fff_ffff,
            0x0080_0000,
            0x007f_ffff,
            0x0000_0001,
            0x7f7f_ffff,
            0x3ff0_0000,
            0x7ff0_0000,
            0x4f00_0000,
        ];
        match self.below(8) {
            0..3 => self.of(&EDGES),
            3 => self.of(&FLOATS),
            4 => 1 << self.below(32),
            5 => self.below(256),
            _ => self.next() as u32,
        }
    }
}
