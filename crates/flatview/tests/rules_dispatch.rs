//! How an access becomes callbacks: one test for each rule.
//!
//! | rule (QEMU: `MemoryRegionOps`, `memory_region_dispatch_{read,write}`) | test |
//! |---|---|
//! | one pair of callbacks, with attributes and results | `callbacks_get_attributes_and_place_and_their_errors_come_back` |
//! | a region without a callback (QEMU crashes) | `a_missing_callback_is_a_decode_error` |
//! | endianness: native, little, big | `a_value_is_the_bytes_in_ascending_order_read_in_the_devices_order` |
//! | `valid.accepts` comes first | `accepts_is_asked_first_and_about_the_whole_access` |
//! | `valid.accepts` refuses | `what_accepts_refuses_is_rejected_and_not_called` |
//! | `valid.unaligned` | `an_unaligned_access_is_refused_unless_it_is_valid` |
//! | alignment is that of the offset in the region | `alignment_counts_inside_the_region_and_not_in_the_space` |
//! | alignment before size | `alignment_is_checked_before_size` |
//! | `valid.min`, `valid.max` | `a_size_out_of_bounds_is_refused_with_the_bounds_as_reason` |
//! | `valid.max` 0 | `without_a_largest_size_everything_is_valid_whatever_the_smallest_is` |
//! | `impl` defaults 1 and 4 | `by_default_eight_bytes_become_two_calls_of_four` |
//! | `impl` 0 means the default | `an_implemented_size_of_0_is_the_default` |
//! | `impl` never refuses | `implemented_sizes_never_refuse` |
//! | `impl.unaligned` | file `rules_unaligned.rs` |
//! | step 1, alias | `through_an_alias_the_device_sees_its_own_offsets` |
//! | step 2, invalid: 0, dropped, decode error | `what_is_refused_reads_0_and_writes_nothing` |
//! | step 2, nothing mapped, memory and I/O | `unassigned_memory_reads_0_and_unassigned_ports_read_ones` |
//! | step 2, the log line | `a_refused_access_is_logged_once_in_qemus_words` |
//! | step 3, ioeventfds | comes with them |
//! | step 4, splitting | `a_split_access_reaches_the_device_in_ascending_pieces_in_its_order` |
//! | step 4, splitting, all sizes | `splitting_loses_and_invents_no_bytes` |
//! | step 4, results | `all_pieces_are_tried_and_their_errors_joined` |
//! | step 4, widening reads | `a_widened_read_keeps_the_first_bytes_and_its_own_offset` |
//! | step 4, widening writes | `a_widened_write_brings_zeros_and_its_own_offset` |
//! | step 4, the mask | `what_a_callback_gives_above_its_size_is_cut_off` |
//! | step 5, swapping | `a_value_is_the_bytes_in_ascending_order_read_in_the_devices_order` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;
use parking_lot::Mutex;

/// `r` or `w`, offset, size, value written.
type Call = (char, u64, u32, u64);

/// A device at 0x1000 that notes its calls; its reads give one value.
struct Bench {
    memory: Memory,
    reader: Reader,
    calls: Arc<Mutex<Vec<Call>>>,
    log: Arc<Mutex<Vec<String>>>,
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl AccessLog for Lines {
    fn invalid(&self, access: &InvalidAccess<'_>) {
        self.0.lock().push(access.to_string());
    }
}

const AT: u64 = 0x1000;

impl Bench {
    fn new(rules: AccessRules, value: u64) -> Self {
        Self::with(Endianness::Little, rules, Ops::new(), value)
    }

    fn with(target: Endianness, rules: AccessRules, ops: Ops, value: u64) -> Self {
        let (calls, log) = (Arc::default(), Arc::default());
        let memory = Memory::new(target);
        memory.set_access_log(Lines(Arc::clone(&log)));
        let (r, w): (Arc<Mutex<Vec<Call>>>, _) = (Arc::clone(&calls), Arc::clone(&calls));
        let ops = ops
            .rules(rules)
            .read(move |a| {
                r.lock().push(('r', a.offset(), a.size(), 0));
                Ok(value)
            })
            .write(move |a, value| {
                w.lock().push(('w', a.offset(), a.size(), value));
                Ok(())
            });
        let device = memory.add(Region::io("device", 0x100, ops)).unwrap();
        memory.map(memory.system(), AT, device).unwrap();
        let reader = memory.memory_space().reader();
        Self { memory, reader, calls, log }
    }

    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }

    fn load(&self, at: u64, size: u32) -> Result<u64, MemTxError> {
        match size {
            1 => self.reader.load::<Le, u8>(AT + at).map(u64::from),
            2 => self.reader.load::<Le, u16>(AT + at).map(u64::from),
            4 => self.reader.load::<Le, u32>(AT + at).map(u64::from),
            _ => self.reader.load::<Le, u64>(AT + at),
        }
    }

    fn store(&self, at: u64, size: u32, value: u64) -> Result<(), MemTxError> {
        match size {
            1 => self.reader.store::<Le, u8>(AT + at, value as u8),
            2 => self.reader.store::<Le, u16>(AT + at, value as u16),
            4 => self.reader.store::<Le, u32>(AT + at, value as u32),
            _ => self.reader.store::<Le, u64>(AT + at, value),
        }
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, MemTxError>) -> Reason {
    result.unwrap_err().reason()
}

const LITTLE: AccessRules = AccessRules::new().endian(DeviceEndian::Little);
const BIG: AccessRules = AccessRules::new().endian(DeviceEndian::Big);

#[test]
fn callbacks_get_attributes_and_place_and_their_errors_come_back() {
    let memory = Memory::new(Endianness::Little);
    let space = memory.memory_space();
    let id = space.id();
    let check = move |a: &Access<'_>| {
        assert_eq!((a.address(), a.offset(), a.size()), (0x2004, 4, 4));
        assert_eq!((a.space(), a.depth()), (id, 0));
        a.attrs()
    };
    let ops = Ops::new()
        .read(move |a| {
            assert!(!a.is_write());
            if check(a).secure { Ok(u64::from(a.attrs().requester_id)) } else { Err(MemTxError::access()) }
        })
        .write(move |a, _| {
            assert!(a.is_write());
            if check(a) == MemTxAttrs::UNSPECIFIED { Err(MemTxError::error()) } else { Ok(()) }
        });
    let region = memory.add(Region::io("device", 8, ops)).unwrap();
    memory.map(memory.system(), 0x2000, region).unwrap();
    let reader = space.reader();
    let secure = reader.port(MemTxAttrs::new().with_secure(true).with_requester(0x1234));
    assert_eq!(secure.load::<Le, u32>(0x2004), Ok(0x1234));
    assert_eq!(secure.store::<Le, u32>(0x2004, 0), Ok(()));
    let error = reader.load::<Le, u32>(0x2004).unwrap_err();
    assert_eq!(error.result(), MemTxResult::ACCESS_ERROR);
    assert_eq!((error.address(), error.size(), error.region()), (0x2004, 4, Some(region)));
    let error = reader.store::<Le, u32>(0x2004, 0).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::ERROR, Reason::Device));
    // Unspecified is not the same as everything off.
    assert_ne!(MemTxAttrs::UNSPECIFIED, MemTxAttrs::new());
    assert_eq!(reader.port(MemTxAttrs::new()).store::<Le, u32>(0x2004, 0), Ok(()));
}

#[test]
fn a_missing_callback_is_a_decode_error() {
    let memory = Memory::new(Endianness::Little);
    let region = memory.add(Region::io("nothing", 8, Ops::new())).unwrap();
    memory.map(memory.system(), 0, region).unwrap();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(reader.store::<Le, u32>(0, 1).unwrap_err().result(), MemTxResult::DECODE_ERROR);
}

#[test]
fn a_value_is_the_bytes_in_ascending_order_read_in_the_devices_order() {
    use DeviceEndian::{Big, Little, Native};
    let bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
    for target in [Endianness::Little, Endianness::Big] {
        for device in [Native, Little, Big] {
            let order = match device {
                Native => target,
                Little => Endianness::Little,
                Big => Endianness::Big,
            };
            for size in [1, 2, 4, 8] {
                let big = bytes[..size].iter().fold(0, |v, b| v << 8 | u64::from(*b));
                let little = bytes[..size].iter().rfold(0, |v, b| v << 8 | u64::from(*b));
                let seen = if order == Endianness::Big { big } else { little };
                let rules = AccessRules::new().endian(device).valid(1, 8).implemented(1, 8);
                let bench = Bench::with(target, rules, Ops::new(), seen);
                let expect = [('w', 8, size as u32, seen)];
                // The bus moves bytes; an exact access says in which order its value stands in them.
                bench.reader.write(AT + 8, &bytes[..size]).unwrap();
                assert_eq!(bench.calls(), expect);
                let (be, le) = (&bench.reader, &bench.reader);
                match size {
                    1 => be.store::<Be, _>(AT + 8, big as u8).unwrap(),
                    2 => be.store::<Be, _>(AT + 8, big as u16).unwrap(),
                    4 => be.store::<Be, _>(AT + 8, big as u32).unwrap(),
                    _ => be.store::<Be, _>(AT + 8, big).unwrap(),
                }
                assert_eq!(bench.calls(), expect);
                match size {
                    1 => le.store::<Le, _>(AT + 8, little as u8).unwrap(),
                    2 => le.store::<Le, _>(AT + 8, little as u16).unwrap(),
                    4 => le.store::<Le, _>(AT + 8, little as u32).unwrap(),
                    _ => le.store::<Le, _>(AT + 8, little).unwrap(),
                }
                assert_eq!(bench.calls(), expect);
                let mut out = [0; 8];
                bench.reader.read(AT + 8, &mut out[..size]).unwrap();
                assert_eq!(out[..size], bytes[..size]);
                let got = match size {
                    1 => u64::from(be.load::<Be, u8>(AT).unwrap()),
                    2 => u64::from(be.load::<Be, u16>(AT).unwrap()),
                    4 => u64::from(be.load::<Be, u32>(AT).unwrap()),
                    _ => be.load::<Be, u64>(AT).unwrap(),
                };
                assert_eq!(got, big);
                assert_eq!(bench.load(0, size as u32), Ok(little));
            }
        }
    }
}

#[test]
fn accepts_is_asked_first_and_about_the_whole_access() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let ops = Ops::new().accepts(move |a| {
        seen.lock().push((a.offset(), a.size(), a.is_write(), a.attrs().user));
        a.offset() != 0x20
    });
    // Callbacks of one byte, four-byte accesses at most, aligned.
    let bench = Bench::with(Endianness::Little, LITTLE.valid(1, 4).implemented(1, 1), ops, 0);
    let user = bench.reader.port(MemTxAttrs::new().with_user(true));
    user.store::<Le, u32>(AT + 0x10, 0).unwrap();
    assert_eq!(*asked.lock(), [(0x10, 4, true, true)], "once, before it is split");
    assert_eq!(bench.calls().len(), 4);
    // Asked also about what alignment and size would refuse, and before them.
    assert_eq!(reason(bench.load(0x11, 4)), Reason::Unaligned);
    assert_eq!(reason(bench.load(0x20, 8)), Reason::Rejected);
    assert_eq!(asked.lock()[1..], [(0x11, 4, false, false), (0x20, 8, false, false)]);
    assert!(bench.calls().is_empty());
}

#[test]
fn what_accepts_refuses_is_rejected_and_not_called() {
    let ops = Ops::new().accepts(|a| a.is_write() && a.attrs().secure);
    let bench = Bench::with(Endianness::Little, LITTLE, ops, 5);
    assert_eq!(reason(bench.load(0, 4)), Reason::Rejected);
    let error = bench.store(0, 4, 1).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::DECODE_ERROR, Reason::Rejected));
    assert!(bench.calls().is_empty());
    bench.reader.port(MemTxAttrs::new().with_secure(true)).store::<Le, u32>(AT, 1).unwrap();
    assert_eq!(bench.calls(), [('w', 0, 4, 1)]);
}

#[test]
fn an_unaligned_access_is_refused_unless_it_is_valid() {
    for size in [1, 2, 4, 8] {
        for at in 0..8 {
            let bench = Bench::new(LITTLE, 0);
            let aligned = at % u64::from(size) == 0;
            assert_eq!(bench.load(at, size).is_ok(), aligned);
            assert_eq!(bench.store(at, size, 0).is_ok(), aligned);
            if !aligned {
                let error = bench.load(at, size).unwrap_err();
                assert_eq!((error.result(), error.reason()), (MemTxResult::DECODE_ERROR, Reason::Unaligned));
                bench.calls();
            }
            let takes = Bench::new(LITTLE.valid_unaligned(), 0);
            assert!(takes.load(at, size).is_ok() && takes.store(at, size, 0).is_ok());
        }
    }
}

#[test]
fn alignment_counts_inside_the_region_and_not_in_the_space() {
    let bench = Bench::new(LITTLE, 7);
    let device = bench.memory.children(bench.memory.system()).unwrap()[0];
    bench.memory.update(|t| t.set_address(device, AT + 1)).unwrap();
    assert_eq!(bench.reader.load::<Le, u32>(AT + 1), Ok(7));
    assert_eq!(bench.calls(), [('r', 0, 4, 0)]);
    assert_eq!(reason(bench.reader.load::<Le, u32>(AT + 4)), Reason::Unaligned);
}

#[test]
fn alignment_is_checked_before_size() {
    let bench = Bench::new(LITTLE.valid(1, 2), 0);
    assert_eq!(reason(bench.load(2, 4)), Reason::Unaligned);
    assert_eq!(reason(bench.load(4, 4)), Reason::InvalidSize { min: 1, max: 2 });
}

#[test]
fn a_size_out_of_bounds_is_refused_with_the_bounds_as_reason() {
    for (min, max) in [(1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 4), (4, 8), (8, 8)] {
        let bench = Bench::new(LITTLE.valid(min, max).implemented(1, 8), 0);
        for size in [1, 2, 4, 8] {
            let (load, store) = (bench.load(0, size), bench.store(0, size, 0));
            if (min..=max).contains(&size) {
                assert_eq!((load, store), (Ok(0), Ok(())));
                assert_eq!(bench.calls().len(), 2);
            } else {
                assert_eq!(load.unwrap_err().result(), MemTxResult::DECODE_ERROR);
                assert_eq!(reason(load), Reason::InvalidSize { min, max });
                assert_eq!(reason(store), Reason::InvalidSize { min, max });
                assert!(bench.calls().is_empty());
            }
        }
    }
}

#[test]
fn without_a_largest_size_everything_is_valid_whatever_the_smallest_is() {
    assert_eq!(AccessRules::new().valid_sizes(), None);
    let rules = LITTLE.valid(4, 0).implemented(1, 8);
    assert_eq!(rules.valid_sizes(), None);
    for size in [1, 2, 4, 8] {
        let bench = Bench::new(rules, 0);
        bench.store(8, size, 1).unwrap();
        assert_eq!(bench.calls(), [('w', 8, size, 1)]);
    }
}

#[test]
fn by_default_eight_bytes_become_two_calls_of_four() {
    let bench = Bench::new(LITTLE, 0x1111_2222);
    bench.store(8, 8, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(bench.calls(), [('w', 8, 4, 0x0506_0708), ('w', 12, 4, 0x0102_0304)]);
    assert_eq!(bench.load(8, 8), Ok(0x1111_2222_1111_2222));
    for size in [1, 2, 4] {
        bench.store(8, size, 1).unwrap();
        assert_eq!(bench.calls().last(), Some(&('w', 8, size, 1)));
    }
}

#[test]
fn an_implemented_size_of_0_is_the_default() {
    let bench = Bench::new(LITTLE.implemented(0, 0), 0);
    bench.store(0, 8, 0).unwrap();
    bench.store(1, 1, 0).unwrap();
    assert_eq!(bench.calls(), [('w', 0, 4, 0), ('w', 4, 4, 0), ('w', 1, 1, 0)]);
}

#[test]
fn implemented_sizes_never_refuse() {
    for min in [1, 2, 4, 8] {
        for max in [1, 2, 4, 8] {
            let bench = Bench::new(LITTLE.implemented(min, max), 0);
            for size in [1, 2, 4, 8] {
                assert_eq!(bench.load(0, size), Ok(0), "{min} {max} {size}");
                assert_eq!(bench.store(0, size, 0), Ok(()));
                // QEMU: the smaller of size and max, but at least min.
                let call = size.min(max).max(min);
                assert!(bench.calls().iter().all(|c| c.2 == call));
            }
        }
    }
}

#[test]
fn through_an_alias_the_device_sees_its_own_offsets() {
    let bench = Bench::new(LITTLE, 9);
    let memory = &bench.memory;
    let device = memory.children(memory.system()).unwrap()[0];
    let inner = memory.add(Region::alias("inner", device, 0x40, 0x40)).unwrap();
    let outer = memory.add(Region::alias("outer", inner, 0x10, 0x10)).unwrap();
    memory.map(memory.system(), 0x8000, outer).unwrap();
    assert_eq!(bench.reader.load::<Le, u32>(0x8004), Ok(9));
    assert_eq!(bench.calls(), [('r', 0x54, 4, 0)]);
    assert!(bench.reader.load::<Le, u32>(0x8010).is_err());
}

#[test]
fn what_is_refused_reads_0_and_writes_nothing() {
    let bench = Bench::new(LITTLE.valid(4, 4), u64::MAX);
    let mut out = [0xee; 3];
    assert!(bench.reader.read(AT, &mut out).is_err());
    assert_eq!(out, [0; 3]);
    assert_eq!(bench.reader.write(AT, &[1; 3]).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert!(bench.calls().is_empty());
}

#[test]
fn unassigned_memory_reads_0_and_unassigned_ports_read_ones() {
    let memory = Memory::new(Endianness::Little);
    let log = Arc::new(Mutex::new(Vec::new()));
    memory.set_access_log(Lines(Arc::clone(&log)));
    let reader = memory.memory_space().reader();
    let mut out = [0xee; 5];
    let error = reader.read(0x4_0000_0000, &mut out).unwrap_err();
    assert_eq!((error.result(), error.region()), (MemTxResult::DECODE_ERROR, None));
    assert_eq!(out, [0; 5]);
    assert_eq!(reader.write(8, &[1]).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(reader.load::<Be, u64>(0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(reader.store::<Be, u64>(0, 0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(log.lock().len(), 5, "one for each piece");
    log.lock().clear();

    let ports = memory.io_space().reader();
    let mut out = [0; 5];
    assert_eq!(ports.read(0x3f8, &mut out), Ok(()));
    assert_eq!(out, [0xff; 5]);
    assert_eq!(ports.load::<Le, u8>(0xffff), Ok(0xff));
    assert_eq!(ports.load::<Be, u16>(0x10), Ok(0xffff));
    assert_eq!(ports.load::<Le, u32>(0x10), Ok(u32::MAX));
    assert_eq!(ports.load::<Le, u64>(0x10), Ok(u64::MAX));
    assert_eq!(ports.write(0x80, &[1, 2, 3]), Ok(()));
    assert!(log.lock().is_empty());
    // Past the 64 KiB of ports there is nothing at all.
    assert_eq!(ports.load::<Le, u8>(0x1_0000).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    // A port that is mapped answers for itself.
    let port = memory.add(Region::io("port", 4, Ops::new().read(|_| Ok(0x12)))).unwrap();
    memory.map(memory.io(), 0x60, port).unwrap();
    assert_eq!(ports.load::<Le, u8>(0x60), Ok(0x12));
    assert_eq!(ports.load::<Le, u8>(0x64), Ok(0xff));
}

#[test]
fn a_refused_access_is_logged_once_in_qemus_words() {
    let bench = Bench::new(LITTLE.valid(2, 4).implemented(1, 1), 0);
    bench.load(0xa, 1).unwrap_err();
    assert_eq!(
        bench.log(),
        ["Invalid read at addr 0xA, size 1, region 'device', reason: invalid size (min:2 max:4)"]
    );
    bench.store(0xff, 4, 0).unwrap_err();
    assert_eq!(bench.log(), ["Invalid write at addr 0xFF, size 4, region 'device', reason: unaligned"]);
    bench.reader.load::<Le, u64>(0xdead_beef).unwrap_err();
    assert_eq!(bench.log(), ["Invalid read at addr 0xDEADBEEF, size 8, region '(null)', reason: rejected"]);
    let rom = Region::rom("boot rom", RamBlock::anonymous("boot rom", 0x1000).unwrap());
    let rom = bench.memory.add(rom).unwrap();
    bench.memory.map(bench.memory.system(), 0xfff0_0000, rom).unwrap();
    bench.reader.store::<Le, u16>(0xfff0_0010, 0).unwrap_err();
    assert_eq!(bench.log(), ["Invalid write at addr 0x10, size 2, region 'boot rom', reason: rejected"]);
    // A device's own error is the device's to tell.
    bench.load(4, 4).unwrap();
    assert!(bench.log().is_empty());
}

#[test]
fn a_split_access_reaches_the_device_in_ascending_pieces_in_its_order() {
    let bench = Bench::new(BIG.implemented(1, 1), 0);
    bench.reader.store::<Be, u32>(AT + 0xe8, 0x1122_3344).unwrap();
    assert_eq!(
        bench.calls(),
        [('w', 0xe8, 1, 0x11), ('w', 0xe9, 1, 0x22), ('w', 0xea, 1, 0x33), ('w', 0xeb, 1, 0x44)]
    );
    let bench = Bench::new(LITTLE.implemented(1, 1), 0);
    bench.store(0, 4, 0x1122_3344).unwrap();
    assert_eq!(bench.calls(), [('w', 0, 1, 0x44), ('w', 1, 1, 0x33), ('w', 2, 1, 0x22), ('w', 3, 1, 0x11)]);
    let bench = Bench::new(BIG.implemented(1, 2), 0xabcd);
    bench.reader.store::<Be, u64>(AT, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(
        bench.calls(),
        [('w', 0, 2, 0x0102), ('w', 2, 2, 0x0304), ('w', 4, 2, 0x0506), ('w', 6, 2, 0x0708)]
    );
    assert_eq!(bench.reader.load::<Be, u32>(AT + 8), Ok(0xabcd_abcd));
    assert_eq!(bench.calls(), [('r', 8, 2, 0), ('r', 10, 2, 0)]);
}

#[test]
fn splitting_loses_and_invents_no_bytes() {
    for rules in [LITTLE, BIG] {
        for max in [1, 2, 4, 8] {
            // Each call gives its own offset in every byte.
            let memory = Memory::new(Endianness::Little);
            let ops = Ops::new().rules(rules.implemented(1, max)).read(|a| {
                Ok(match a.size() {
                    1 => a.offset() + 1,
                    2 => 0x0101 * (a.offset() + 1),
                    4 => 0x0101_0101 * (a.offset() + 1),
                    _ => 0x0101_0101_0101_0101 * (a.offset() + 1),
                })
            });
            let device = memory.add(Region::io("device", 8, ops)).unwrap();
            memory.map(memory.system(), 0, device).unwrap();
            let got = memory.memory_space().reader().load::<Le, u64>(0).unwrap().to_le_bytes();
            for (i, byte) in (0..).zip(got) {
                assert_eq!(byte, i / max as u8 * max as u8 + 1);
            }
        }
    }
}

#[test]
fn all_pieces_are_tried_and_their_errors_joined() {
    let memory = Memory::new(Endianness::Little);
    let written = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&written);
    let fails = |at: u64| match at {
        0 => Err(MemTxError::error()),
        2 => Err(MemTxError::access()),
        _ => Ok(()),
    };
    let ops = Ops::new()
        .rules(LITTLE.implemented(1, 1))
        .read(move |a| fails(a.offset()).map(|()| 0xa0 + a.offset()))
        .write(move |a, value| {
            seen.lock().push(value);
            fails(a.offset())
        });
    let device = memory.add(Region::io("device", 8, ops)).unwrap();
    memory.map(memory.system(), 0x10, device).unwrap();
    let reader = memory.memory_space().reader();
    let error = reader.store::<Le, u32>(0x10, 0x4433_2211).unwrap_err();
    assert_eq!(*written.lock(), [0x11, 0x22, 0x33, 0x44]);
    assert_eq!(error.result(), MemTxResult::ERROR | MemTxResult::ACCESS_ERROR);
    assert_eq!((error.address(), error.size(), error.region()), (0x10, 4, Some(device)));
    // On the bus, what did not fail can be seen beside the error.
    let mut out = [0xee; 4];
    assert_eq!(reader.read(0x10, &mut out).unwrap_err().result(), error.result());
    assert_eq!(out, [0, 0xa1, 0, 0xa3]);
}

#[test]
fn a_widened_read_keeps_the_first_bytes_and_its_own_offset() {
    let little = Bench::new(LITTLE.implemented(4, 4), 0x1122_3344);
    assert_eq!(little.load(1, 1), Ok(0x44));
    assert_eq!(little.load(2, 2), Ok(0x3344));
    assert_eq!(little.calls(), [('r', 1, 4, 0), ('r', 2, 4, 0)]);
    let big = Bench::new(BIG.implemented(4, 4), 0x1122_3344);
    assert_eq!(big.reader.load::<Be, u8>(AT + 1), Ok(0x11));
    assert_eq!(big.reader.load::<Be, u16>(AT + 2), Ok(0x1122));
    assert_eq!(big.calls(), [('r', 1, 4, 0), ('r', 2, 4, 0)]);
    let wide = Bench::new(BIG.implemented(8, 8), 0x1122_3344_5566_7788);
    assert_eq!(wide.reader.load::<Be, u32>(AT + 4), Ok(0x1122_3344));
    assert_eq!(wide.calls(), [('r', 4, 8, 0)]);
}

#[test]
fn a_widened_write_brings_zeros_and_its_own_offset() {
    let little = Bench::new(LITTLE.implemented(4, 4), 0);
    little.store(1, 1, 0x77).unwrap();
    little.store(2, 2, 0x7788).unwrap();
    assert_eq!(little.calls(), [('w', 1, 4, 0x77), ('w', 2, 4, 0x7788)], "nothing is read before");
    let big = Bench::new(BIG.implemented(4, 4), 0);
    big.reader.store::<Be, u8>(AT + 1, 0x77).unwrap();
    big.reader.store::<Be, u16>(AT + 2, 0x7788).unwrap();
    assert_eq!(big.calls(), [('w', 1, 4, 0x7700_0000), ('w', 2, 4, 0x7788_0000)]);
}

#[test]
fn what_a_callback_gives_above_its_size_is_cut_off() {
    // QEMU's raven gives a sign-extended value for four bytes.
    let bench = Bench::new(LITTLE, 0xffff_ffff_8765_4321);
    assert_eq!(bench.load(0, 4), Ok(0x8765_4321));
    assert_eq!(bench.load(0, 2), Ok(0x4321));
    assert_eq!(bench.load(0, 1), Ok(0x21));
    assert_eq!(bench.load(0, 8), Ok(0x8765_4321_8765_4321));
    let narrow = Bench::new(BIG.implemented(1, 1), 0xffff_ffff_ffff_ff12);
    assert_eq!(narrow.reader.load::<Be, u32>(AT), Ok(0x1212_1212));
    let wide = Bench::new(BIG.implemented(4, 4), 0xffff_ffff_1234_5678);
    assert_eq!(wide.reader.load::<Be, u16>(AT), Ok(0x1234));
}
