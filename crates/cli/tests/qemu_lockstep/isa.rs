//! The DMA controllers, the floppy controller, the parallel port and the codec, by programs that know their commands.
//!
//! The random program of the whole machine meets these ports too; here they get what a driver would write, whole
//! commands with their results and the interrupts that follow. Nothing is left out but what `docs/deviations.md` says:
//! no disk is in the drive, and the codec is not told to play.

use crate::qtest::{env_number, qemu_is_here};
use crate::{Pair, both};

/// Ports of DMA controllers and their extension.
const DMA: [(u64, u64); 5] = [(0x00, 0x10), (0xc0, 0x20), (0x81, 0x0f), (0x481, 0x11), (0x40a, 0x36)];
const COMMANDS: [u64; 39] = [
    0x03, 0x04, 0x07, 0x08, 0x08, 0x08, 0x08, 0x0e, 0x0f, 0x10, 0x12, 0x13, 0x14, 0x94, 0x17, 0x18, 0x2e,
    0x33, 0x4e, 0x8e, 0x8f, 0xcf, 0xcd, 0x02, 0x05, 0x06, 0x09, 0x0a, 0x0c, 0x0d, 0x11, 0x16, 0x19, 0x1d,
    0x46, 0xe6, 0xc5, 0x4a, 0x4d,
];
const FDC: [u64; 6] = [0x3f1, 0x3f2, 0x3f3, 0x3f4, 0x3f5, 0x3f7];

impl Pair {
    /// As a kernel does: vectors 0x20 and 0x28; only the timer is masked.
    fn initialise_pics(&mut self) {
        for (base, words) in [(0x20, [0x11, 0x20, 4, 1]), (0xa0, [0x11, 0x28, 2, 1])] {
            self.write(base, words[0]);
            words[1..].iter().for_each(|word| self.write(base + 1, *word));
        }
        self.write(0x21, 1);
    }

    /// Takes an interrupt, if there is one, and ends it.
    fn take(&mut self) {
        self.write(0x20, 0x0c);
        let master = self.read(0x20, 0xff);
        if master & 0x80 == 0 {
            return;
        }
        if master & 7 == 2 {
            self.write(0xa0, 0x0c);
            self.read(0xa0, 0xff);
            self.write(0xa0, 0x20);
        }
        self.write(0x20, 0x20);
    }

    fn byte(&mut self) -> u64 {
        let any = self.below(256);
        self.pick(&[0, 1, 2, 3, 4, 5, 9, 18, 0x24, 0x50, 0x7f, 0x80, 0xff, any])
    }

    fn dma(&mut self) {
        let n = self.below(DMA.len() as u64);
        let (first, count) = DMA[n as usize];
        let port = first + self.below(count);
        if self.below(2) == 0 {
            let value = self.byte();
            self.write(port, value);
        } else {
            self.read(port, 0xff);
        }
    }

    /// What a command has to say, and the registers after it.
    fn floppy_result(&mut self) {
        self.read(0x3f4, 0xff);
        self.take();
        for _ in 0..20 {
            if self.read(0x3f4, 0xff) & 0xd0 != 0xd0 {
                break;
            }
            self.read(0x3f5, 0xff);
        }
        self.take();
        for port in [0x3f1, 0x3f2, 0x3f3, 0x3f4, 0x3f7] {
            self.read(port, 0xff);
        }
    }

    fn floppy(&mut self) {
        match self.below(12) {
            0..8 => {
                let any = self.below(256);
                let command = if self.below(10) == 0 { any } else { self.pick(&COMMANDS) };
                self.write(0x3f5, command);
                for _ in 0..20 {
                    if self.read(0x3f4, 0xff) != 0x90 {
                        break;
                    }
                    let parameter = self.byte();
                    self.write(0x3f5, parameter);
                }
                if self.below(10) > 0 {
                    self.floppy_result();
                }
            }
            8 => {
                let value = self.below(256);
                self.write(0x3f2, value & !4);
                if self.below(3) == 0 {
                    let port = self.pick(&FDC);
                    self.read(port, 0xff);
                }
                let value = self.below(256);
                self.write(0x3f2, value | 4);
                if self.below(3) > 0 {
                    self.take();
                }
            }
            9 => {
                let (port, value) = (self.pick(&FDC), self.below(256));
                self.write(port, value);
            }
            10 => {
                let port = self.pick(&FDC);
                self.read(port, 0xff);
            }
            _ => {
                self.write(0x3f2, 0x1c);
                for _ in 0..5 {
                    self.write(0x3f5, 8);
                    self.floppy_result();
                }
            }
        }
    }

    fn printer(&mut self) {
        let any = self.below(256);
        match self.below(6) {
            0..3 => {
                let control = self.pick(&[0x0c, 0x0d, 0x1c, 0x1d, 8, 9, 4, 5, 0, 0x2c, 0x2d, any]);
                self.write(0x37a, control);
            }
            3 => {
                let port = 0x378 + self.below(8);
                self.write(port, any);
            }
            4 => {
                let port = 0x378 + self.below(8);
                self.read(port, 0xff);
            }
            _ => drop(self.read(0x379, 0xff)),
        }
        self.take();
    }

    fn codec(&mut self) {
        let any = self.below(256);
        match self.below(6) {
            0 | 1 => {
                let index = self.pick(&[any & 0x1f, 0x40 | any & 0x1f, any]);
                self.write(0x830, index);
            }
            2 => {
                // DEV-162: playing and capturing.
                let interface = self.read(0x830, 0xff) & 0x0f == 9;
                let value = self.byte();
                self.write(0x831, if interface { value & !3 } else { value });
            }
            3 => drop(self.read(0x830, 0xff)),
            4 => {
                let port = 0x832 + self.below(2);
                if self.below(2) == 0 {
                    self.write(port, any);
                } else {
                    self.read(port, 0xff);
                }
            }
            _ => drop(self.read(0x831, 0xff)),
        }
    }
}

#[test]
fn dma_floppy_controller_printer_and_codec_answer_alike() {
    if !qemu_is_here() {
        return;
    }
    let seed = env_number("FLATVIEW_SEED").unwrap_or(0x82077);
    let count = env_number("FLATVIEW_LOCKSTEP").unwrap_or(10_000).min(1_000_000);
    let (qemu, ours) = both(&[]);
    let mut pair = Pair::new(qemu, ours, seed);
    pair.initialise_pics();
    for _ in 0..count {
        match pair.below(8) {
            0 => pair.dma(),
            1 => pair.printer(),
            2 => pair.codec(),
            _ => pair.floppy(),
        }
    }
    println!("{} answers alike, seed {seed}", pair.compared);
    assert!(pair.compared > count, "hardly anything was compared");
}
