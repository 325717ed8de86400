//! Unaligned accesses, and `impl.unaligned` honoured (a deviation from QEMU, which ignores it in the dispatch), against
//! a model of bytes: every size, offset, order, direction and combination of rules.
//!
//! | rule | test |
//! |---|---|
//! | reads give the device's bytes, whatever it implements | `reads_give_the_bytes_of_the_device_under_all_rules` |
//! | writes change exactly the bytes written; but QEMU's widening of an *aligned* write brings zeros | `writes_change_the_bytes_of_the_device_under_all_rules` |
//! | without `impl.unaligned` an unaligned access is made of aligned calls, each place once | `unaligned_accesses_become_aligned_calls_in_ascending_order` |
//! | with it, callbacks are called at the access's offset | `callbacks_that_implement_unaligned_get_the_accesss_own_offset` |
//! | each byte of a read comes from one call | `each_byte_of_an_unaligned_read_comes_from_one_call` |
//! | a call that reads the rest of a word before writing it is a read | `the_rest_of_a_word_is_read_before_it_is_written` |
//! | that read fails | `a_word_whose_rest_cannot_be_read_is_not_written` |
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;
use parking_lot::Mutex;

const SIZES: [u32; 4] = [1, 2, 4, 8];

/// A device that is its bytes; it notes its calls: write, offset, size.
struct Bytes {
    rules: AccessRules,
    big: bool,
    bytes: Mutex<Vec<u8>>,
    calls: Mutex<Vec<(bool, u64, u32)>>,
}

impl MmioOps for Bytes {
    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn read(&self, a: &Access<'_>) -> Result<u64, MemTxError> {
        assert!(!a.is_write());
        assert_eq!(a.address() - a.offset(), AT);
        self.calls.lock().push((false, a.offset(), a.size()));
        let bytes = self.bytes.lock();
        let bytes = &bytes[a.offset() as usize..][..a.size() as usize];
        let fold = |v, b: &u8| v << 8 | u64::from(*b);
        Ok(if self.big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    }

    fn write(&self, a: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        assert!(a.is_write());
        assert_eq!(a.address() - a.offset(), AT);
        self.calls.lock().push((true, a.offset(), a.size()));
        let mut bytes = self.bytes.lock();
        let bytes = &mut bytes[a.offset() as usize..][..a.size() as usize];
        let of = |i: usize| (value >> (8 * if self.big { bytes.len() - 1 - i } else { i })) as u8;
        let new: Vec<u8> = (0..bytes.len()).map(of).collect();
        bytes.copy_from_slice(&new);
        Ok(())
    }
}

const AT: u64 = 0x1003;

/// One combination of rules.
#[derive(Debug, Clone, Copy)]
struct Case {
    big: bool,
    valid_unaligned: bool,
    min: u32,
    max: u32,
    unaligned: bool,
    size: u32,
    offset: u64,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let bools = [false, true];
        let rules = bools.into_iter().flat_map(move |big| {
            bools.into_iter().flat_map(move |valid_unaligned| {
                bools.into_iter().flat_map(move |unaligned| {
                    SIZES.into_iter().flat_map(move |min| {
                        SIZES.into_iter().map(move |max| (big, valid_unaligned, unaligned, min, max))
                    })
                })
            })
        });
        rules.flat_map(|(big, valid_unaligned, unaligned, min, max)| {
            SIZES.into_iter().flat_map(move |size| {
                (0..8).map(move |offset| Case { big, valid_unaligned, min, max, unaligned, size, offset })
            })
        })
    }

    fn is_aligned(&self) -> bool {
        self.offset.is_multiple_of(u64::from(self.size))
    }

    /// Whether it reaches the device at all.
    fn is_taken(&self) -> bool {
        self.valid_unaligned || self.is_aligned()
    }

    /// Whether the device must be called at multiples of the call's size.
    fn needs_aligned_calls(&self) -> bool {
        !self.is_aligned() && !self.unaligned
    }

    fn call_size(&self, size: u32) -> u32 {
        size.min(self.max).max(self.min)
    }

    fn bench(&self) -> (Arc<Bytes>, Reader) {
        let endian = if self.big { DeviceEndian::Big } else { DeviceEndian::Little };
        let mut rules = AccessRules::new().endian(endian).implemented(self.min, self.max);
        if self.valid_unaligned {
            rules = rules.valid_unaligned();
        }
        if self.unaligned {
            rules = rules.implemented_unaligned();
        }
        let bytes = (0..32).map(|i| 0x80 + i).collect();
        let device =
            Arc::new(Bytes { rules, big: self.big, bytes: Mutex::new(bytes), calls: Mutex::default() });
        let memory = Memory::new(Endianness::Little);
        let ops: Arc<dyn MmioOps> = Arc::clone(&device) as _;
        let region = memory.add(Region::io("bytes", 32, Shared(ops))).unwrap();
        memory.map(memory.system(), AT, region).unwrap();
        (device, memory.memory_space().reader())
    }

    /// One exact access; gives the bytes read, or those written, in address order.
    fn load<O: ByteOrder>(&self, reader: &Reader) -> Result<Vec<u8>, MemTxError> {
        let at = AT + self.offset;
        let big = matches!(O::ORDER, Endianness::Big);
        let value = match self.size {
            1 => u64::from(reader.load::<O, u8>(at)?),
            2 => u64::from(reader.load::<O, u16>(at)?),
            4 => u64::from(reader.load::<O, u32>(at)?),
            _ => reader.load::<O, u64>(at)?,
        };
        let byte = |i: u32| (value >> (8 * if big { self.size - 1 - i } else { i })) as u8;
        Ok((0..self.size).map(byte).collect())
    }

    fn store<O: ByteOrder>(&self, reader: &Reader) -> Result<Vec<u8>, MemTxError> {
        let at = AT + self.offset;
        let big = matches!(O::ORDER, Endianness::Big);
        let value = 0x1122_3344_5566_7788_u64;
        match self.size {
            1 => reader.store::<O, _>(at, value as u8)?,
            2 => reader.store::<O, _>(at, value as u16)?,
            4 => reader.store::<O, _>(at, value as u32)?,
            _ => reader.store::<O, _>(at, value)?,
        }
        let byte = |i: u32| (value >> (8 * if big { self.size - 1 - i } else { i })) as u8;
        Ok((0..self.size).map(byte).collect())
    }
}

/// An `Arc` of callbacks, so that the test keeps a handle.
struct Shared(Arc<dyn MmioOps>);

impl MmioOps for Shared {
    fn rules(&self) -> AccessRules {
        self.0.rules()
    }
    fn read(&self, a: &Access<'_>) -> Result<u64, MemTxError> {
        self.0.read(a)
    }
    fn write(&self, a: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(a, value)
    }
}

#[test]
fn reads_give_the_bytes_of_the_device_under_all_rules() {
    let mut taken = 0;
    for case in Case::all() {
        let (device, reader) = case.bench();
        let expect = device.bytes.lock()[case.offset as usize..][..case.size as usize].to_vec();
        for got in [case.load::<Le>(&reader), case.load::<Be>(&reader)] {
            if case.is_taken() {
                assert_eq!(got.as_ref(), Ok(&expect), "{case:?}");
                taken += 1;
            } else {
                assert_eq!(got.unwrap_err().reason(), Reason::Unaligned, "{case:?}");
            }
        }
        assert!(device.calls.lock().iter().all(|c| !c.0));
    }
    assert_eq!(taken, 2 * (64 * 32 + 64 * (8 + 4 + 2 + 1)));
}

#[test]
fn writes_change_the_bytes_of_the_device_under_all_rules() {
    for case in Case::all() {
        for big_value in [false, true] {
            let (device, reader) = case.bench();
            let mut expect = device.bytes.lock().clone();
            let written = if big_value { case.store::<Be>(&reader) } else { case.store::<Le>(&reader) };
            if case.is_taken() {
                let at = case.offset as usize;
                // QEMU's widening: the other bytes of the one call are zeros.
                if !case.needs_aligned_calls() && case.call_size(case.size) > case.size {
                    expect[at..][..case.call_size(case.size) as usize].fill(0);
                }
                expect[at..][..case.size as usize].copy_from_slice(&written.unwrap());
            } else {
                assert!(written.is_err());
            }
            assert_eq!(*device.bytes.lock(), expect, "{case:?} {big_value}");
        }
    }
}

#[test]
fn unaligned_accesses_become_aligned_calls_in_ascending_order() {
    for case in Case::all().filter(|c| c.is_taken() && c.needs_aligned_calls()) {
        let (device, reader) = case.bench();
        case.load::<Le>(&reader).unwrap();
        let reads = std::mem::take(&mut *device.calls.lock());
        let sizes = case.min..=case.call_size(8);
        let mut at = case.offset;
        for (i, (_, offset, size)) in reads.iter().enumerate() {
            assert!(sizes.contains(size) && offset % u64::from(*size) == 0, "{case:?}: {reads:?}");
            // Each place once: a call begins where the last one ended, but for what comes before the first.
            assert!(if i == 0 { *offset <= at } else { *offset == at }, "{case:?}: {reads:?}");
            at = offset + u64::from(*size);
        }
        let end = case.offset + u64::from(case.size);
        assert!((end..end + u64::from(case.call_size(1))).contains(&at), "{case:?}: {reads:?}");
        // A write is made of the same calls; where one is larger than what it writes, it is read first.
        case.store::<Le>(&reader).unwrap();
        let calls = std::mem::take(&mut *device.calls.lock());
        let writes: Vec<_> = calls.iter().filter(|c| c.0).map(|c| (false, c.1, c.2)).collect();
        assert_eq!(writes, reads, "{case:?}");
        let partly = |c: &&(bool, u64, u32)| c.1 < case.offset || c.1 + u64::from(c.2) > end;
        let looked: Vec<_> = calls.iter().filter(|c| !c.0).copied().collect();
        let expect: Vec<_> = reads.iter().filter(partly).copied().collect();
        assert_eq!(looked, expect, "{case:?}");
    }
}

#[test]
fn callbacks_that_implement_unaligned_get_the_accesss_own_offset() {
    for case in Case::all().filter(|c| c.is_taken() && !c.needs_aligned_calls()) {
        let (device, reader) = case.bench();
        case.load::<Le>(&reader).unwrap();
        let size = case.call_size(case.size);
        let expect: Vec<_> = (0..case.size)
            .step_by(size as usize)
            .map(|at| (false, case.offset + u64::from(at), size))
            .collect();
        assert_eq!(*device.calls.lock(), expect, "{case:?}");
    }
}

#[test]
fn each_byte_of_an_unaligned_read_comes_from_one_call() {
    // A device whose every read is different: the n-th gives n in all its bytes.
    for endian in [DeviceEndian::Little, DeviceEndian::Big] {
        for word in SIZES {
            for offset in 1..8 {
                let memory = Memory::new(Endianness::Little);
                let count = Mutex::new(0);
                let rules = AccessRules::new().endian(endian).valid_unaligned().implemented(word, word);
                let ops = Ops::new().rules(rules).read(move |_| {
                    let mut count = count.lock();
                    *count += 1;
                    Ok(0x0101_0101_0101_0101 * *count)
                });
                let region = memory.add(Region::io("counter", 32, ops)).unwrap();
                memory.map(memory.system(), 0, region).unwrap();
                let got = memory.memory_space().reader().load::<Le, u64>(offset).unwrap().to_le_bytes();
                let word_of = |i: u64| (offset + i) / u64::from(word) - offset / u64::from(word) + 1;
                let expect: Vec<u8> = (0..8).map(|i| word_of(i) as u8).collect();
                assert_eq!(got.to_vec(), expect, "{endian:?}, words of {word}, offset {offset}");
            }
        }
    }
}

#[test]
fn the_rest_of_a_word_is_read_before_it_is_written() {
    let memory = Memory::new(Endianness::Little);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (r, w) = (Arc::clone(&calls), Arc::clone(&calls));
    let ops = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Big).valid_unaligned().implemented(4, 4))
        .read(move |a| {
            r.lock().push((a.is_write(), a.offset(), 0));
            Ok(0xa0a1_a2a3)
        })
        .write(move |a, value| {
            w.lock().push((a.is_write(), a.offset(), value));
            Ok(())
        });
    let region = memory.add(Region::io("words", 16, ops)).unwrap();
    memory.map(memory.system(), 0, region).unwrap();
    memory.memory_space().reader().store::<Be, u32>(3, 0x1122_3344).unwrap();
    let expect = [(false, 0, 0), (true, 0, 0xa0a1_a211), (false, 4, 0), (true, 4, 0x2233_44a3)];
    assert_eq!(*calls.lock(), expect);
}

#[test]
fn a_word_whose_rest_cannot_be_read_is_not_written() {
    let memory = Memory::new(Endianness::Little);
    let written = Arc::new(Mutex::new(Vec::new()));
    let w = Arc::clone(&written);
    let ops = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Little).valid_unaligned().implemented(4, 4))
        .read(|a| if a.offset() == 0 { Err(MemTxError::access()) } else { Ok(0) })
        .write(move |a, value| {
            w.lock().push((a.offset(), value));
            Ok(())
        });
    let region = memory.add(Region::io("words", 16, ops)).unwrap();
    memory.map(memory.system(), 0, region).unwrap();
    let error = memory.memory_space().reader().store::<Le, u32>(2, 0x4433_2211).unwrap_err();
    assert_eq!(error.result(), MemTxResult::ACCESS_ERROR);
    assert_eq!(*written.lock(), [(4, 0x4433)]);
}
