//! Bus reads and writes of many bytes.

use flatview::Reader;

use super::ram::raw_same;
use crate::error::BenchError;
use crate::limits::OURS;
use crate::maps::{Ram, Readers};
use crate::measure::{Contender, Plan};
use crate::peers::raw::RawRam;
use crate::run::Run;

/// A buffer that begins at a multiple of 4,096, and more.
fn buffer(len: usize) -> (Vec<u8>, usize) {
    let bytes = vec![0x5a; len + 2 * 4096];
    let skip = bytes.as_ptr().align_offset(4096);
    (bytes, skip)
}

#[inline(never)]
fn read(reader: &Reader, ops: u64, addr: u64, out: &mut [u8]) -> u64 {
    let mut sum = 0;
    for _ in 0..ops {
        if reader.read(std::hint::black_box(addr), out).is_ok() {
            sum += u64::from(std::hint::black_box(&*out).last().copied().unwrap_or(0));
        }
    }
    sum
}

#[inline(never)]
fn write(reader: &Reader, ops: u64, addr: u64, bytes: &[u8]) -> u64 {
    (0..ops).filter(|_| reader.write(std::hint::black_box(addr), std::hint::black_box(bytes)).is_ok()).count()
        as u64
}

/// How source and destination are aligned: name, offset of the guest's side, offset of the host's.
const ALIGNMENTS: [(&str, u64, usize); 4] =
    [("aligned", 0, 0), ("guest +1", 1, 0), ("host +1", 0, 1), ("both +16", 16, 16)];

const MEMCPY: &str = "memcpy";

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = Ram::new(1)?;
    let (raw, readers): (&RawRam, _) = (&ram.raw, &Readers::new(|| ram.reader()));
    for len in [1, 2, 4, 8, 64, 512, 4096, 65_536, 1 << 20] {
        for (name, guest, host) in ALIGNMENTS {
            if len < 4096 && guest + host as u64 > 0 {
                continue;
            }
            let plan = if len < 65_536 { Plan::QUICK } else { Plan::LONG };
            for (what, reads) in [("read", true), ("write", false)] {
                let figure = format!("{what}/{len}/{name}");
                if (!reads && name != "aligned") || !run.wants(&figure) {
                    continue;
                }
                // The same buffer on both sides: where it lies decides too.
                let (mut bytes, skip) = buffer(len);
                let at = skip + host..skip + host + len;
                let shared = std::cell::RefCell::new(&mut bytes);
                let guest = 4096 + guest;
                let contenders = vec![
                    raw_same(raw),
                    Contender::new(MEMCPY, |ops, _| {
                        shared.borrow_mut().get_mut(at.clone()).map_or(0, |out| match reads {
                            true => raw.copy_out(ops, guest, out),
                            false => raw.copy_in(ops, guest, out),
                        })
                    }),
                    Contender::new(OURS, |ops, _| {
                        shared.borrow_mut().get_mut(at.clone()).map_or(0, |out| match reads {
                            true => read(readers.next(), ops, guest, out),
                            false => write(readers.next(), ops, guest, out),
                        })
                    }),
                ];
                run.race(&figure, contenders, &[(OURS, MEMCPY)], plan)?;
            }
        }
    }
    Ok(())
}
