//! An image of `guests/`, for tests that load it past a board: 32-bit ELF with one loadable piece and its global symbols.
//! It reads images of our own only; firmware and programs of users go through `flatview-board`.

use std::path::Path;

use flatview::Endianness;

pub struct Image {
    order: Endianness,
    file: Vec<u8>,
}

impl Image {
    pub fn read(path: &Path, order: Endianness) -> Self {
        Self { order, file: std::fs::read(path).unwrap() }
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.file[at..at + 4].try_into().unwrap();
        if self.order == Endianness::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn half(&self, at: usize) -> usize {
        let bytes = self.file[at..at + 2].try_into().unwrap();
        usize::from(if self.order == Endianness::Big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    /// The virtual address of its first instruction.
    pub fn entry(&self) -> u32 {
        self.word(24)
    }

    /// What to load, and at which virtual address.
    pub fn piece(&self) -> (u32, &[u8]) {
        let header = self.word(28) as usize;
        let (from, at, size) = (self.word(header + 4), self.word(header + 8), self.word(header + 16));
        (at, &self.file[from as usize..][..size as usize])
    }

    /// The virtual address of a symbol.
    pub fn symbol(&self, name: &str) -> u32 {
        let (headers, count) = (self.word(32) as usize, self.half(48));
        let table = (0..count).map(|n| headers + 40 * n).find(|at| self.word(at + 4) == 2).unwrap();
        let names = self.word(headers + 40 * self.word(table + 24) as usize + 16) as usize;
        let (start, size) = (self.word(table + 16) as usize, self.word(table + 20) as usize);
        let entry = (start..start + size).step_by(16).find(|at| {
            let text = &self.file[names + self.word(*at) as usize..];
            text.split(|byte| *byte == 0).next() == Some(name.as_bytes())
        });
        assert!(entry.is_some(), "no symbol {name}");
        self.word(entry.unwrap() + 4)
    }
}
