//! The FPU beyond what the guest programs check: denormal numbers, NaNs, registers whole and in pairs, refused encodings.

use crate::support::{Board, asm::*};
use flatview_cpu::mips::{Exception, FCSR, fpr};

const CU1: u32 = 1 << 29;
const FR: u32 = 1 << 26;
const FS: u64 = 1 << 24;
const S: u32 = 16;
const D: u32 = 17;
const W: u32 = 20;
const L: u32 = 21;

/// `function.format fd, fs, ft`
const fn fpu(format: u32, function: u32, fd: u32, fs: u32, ft: u32) -> u32 {
    0x11 << 26 | format << 21 | ft << 16 | fs << 11 | fd << 6 | function
}

fn board(status: u32, code: &[u32]) -> Board {
    let mut board = Board::new();
    board.handler();
    let mut code = code.to_vec();
    code.extend([b(-1), nop()]);
    board.program(&code);
    board.cpu.core_mut().isa.cp0.set_all_status(CU1 | status);
    board
}

/// What `$f0` and FCSR are after an operation on `$f2` and `$f4`, all of 64 bits.
fn run(word: u32, fcsr: u64, a: u64, b: u64) -> (u64, u64) {
    let mut board = board(FR, &[word]);
    let core = board.cpu.core_mut();
    core.set(FCSR, fcsr);
    core.set(fpr(2), a);
    core.set(fpr(4), b);
    core.set(fpr(0), 0x1111_1111_2222_2222);
    board.run(3);
    assert_eq!(board.cpu.core().isa.cp0.status() & 2, 0, "an exception: {word:08x}");
    (board.cpu.core().get(fpr(0)), board.cpu.core().get(FCSR))
}

/// The exception that an instruction takes.
fn refused(status: u32, word: u32) -> Option<u32> {
    let mut board = board(status, &[word]);
    board.run(3);
    let taken = board.cpu.core().isa.cp0.status() & 2 != 0;
    taken.then(|| board.exception())
}

#[test]
fn singles_leave_the_upper_half_of_a_register() {
    let (one, two) = (0x3f80_0000, 0x4000_0000);
    assert_eq!(run(fpu(S, 0, 0, 2, 4), 0, one, two), (0x1111_1111_4040_0000, 0));
    assert_eq!(run(fpu(W, 0x20, 0, 2, 0), 0, 3, 0), (0x1111_1111_4040_0000, 0));
    assert_eq!(run(fpu(L, 0x21, 0, 2, 0), 0, u64::MAX, 0), (0xbff0_0000_0000_0000, 0));
}

#[test]
fn tiny_results_are_denormal_or_with_fs_zero() {
    let mul = fpu(S, 2, 0, 2, 4);
    let (half, least) = (0x3f00_0000, 0x0080_0000);
    let single = |(value, fcsr): (u64, u64)| (value as u32, fcsr);
    assert_eq!(single(run(mul, 0, least, half)), (0x0040_0000, 0));
    assert_eq!(single(run(mul, 0, least | 1, half)), (0x0040_0000, 0x300c));
    // As QEMU's 24Kf: no flag, the sign stays, and operands are what they are.
    assert_eq!(single(run(mul, FS, least | 1, half)), (0, FS));
    assert_eq!(single(run(mul, FS, least | 1 << 31, half)), (1 << 31, FS));
    assert_eq!(single(run(mul, FS, 1, 0x7180_0000)), (0x2700_0000, FS));
    // What would round up to the least normal number is tiny before.
    assert_eq!(single(run(mul, 0, 0x007f_ffff, 0x3f80_0001)), (0x0080_0000, 0x1004));
    assert_eq!(single(run(mul, FS, 0x007f_ffff, 0x3f80_0001)), (0, FS));
}

#[test]
fn nans_become_the_default_one() {
    let (quiet, signalling) = (0xffa0_0001, 0x7fc0_0001);
    for (word, operand, want) in [
        (fpu(S, 0, 0, 2, 4), quiet, 0x1111_1111_7fbf_ffff),
        (fpu(S, 0x21, 0, 2, 0), quiet, 0x7ff7_ffff_ffff_ffff),
        (fpu(D, 0x20, 0, 2, 0), 0x7ff0_0000_0000_0001, 0x1111_1111_7fbf_ffff),
        (fpu(S, 4, 0, 2, 0), quiet, 0x1111_1111_7fbf_ffff),
    ] {
        assert_eq!(run(word, 0, operand, 0x3f80_0000), (want, 0), "{word:08x}");
    }
    assert_eq!(run(fpu(S, 0, 0, 2, 4), 0, signalling, quiet), (0x1111_1111_7fbf_ffff, 0x1_0040));
    // Moves look at no number.
    assert_eq!(run(fpu(S, 7, 0, 2, 0), 0, signalling, 0), (0x1111_1111_ffc0_0001, 0));
    assert_eq!(run(fpu(S, 0x25, 0, 2, 0), 0, 0xff80_0000, 0), (i64::MAX as u64, 0x1_0040));
}

#[test]
fn registers_are_pairs_and_become_whole() {
    // $f2 = 1.5 from its two halves, plus itself.
    let mut board = board(0, &[fpu(D, 0, 4, 2, 2)]);
    let core = board.cpu.core_mut();
    core.set(fpr(3), 0x3ff8_0000);
    board.run(2);
    let core = board.cpu.core();
    assert_eq!((core.get(fpr(4)), core.get(fpr(5))), (0, 0x4008_0000));
}

#[test]
fn what_the_24kf_does_not_have_is_reserved() {
    const RESERVED: Option<u32> = Some(Exception::Reserved as u32);
    for word in [
        fpu(22, 0, 0, 2, 4),   // add.ps
        fpu(S, 0x26, 0, 2, 4), // cvt.ps.s
        fpu(S, 0x20, 0, 2, 0), // cvt.s.s
        fpu(D, 0x21, 0, 2, 0), // cvt.d.d
        fpu(W, 0x24, 0, 2, 0), // cvt.w.w
        fpu(S, 0x10, 0, 2, 0), // nothing
        fpu(S, 0x7c, 0, 2, 4), // cabs.lt.s
        fpu(9, 0, 0, 0, 0),    // bc1any2f
        fpu(1, 0, 0, 2, 0),    // dmfc1
        fpu(5, 0, 0, 2, 0),    // dmtc1
        0x4c82_101e,           // alnv.ps
        0x4c82_1026,           // madd.ps
    ] {
        assert_eq!(refused(FR, word), RESERVED, "{word:08x}");
    }
    // Doubles in odd registers, and 64-bit integers, want whole registers.
    for word in [
        fpu(D, 0, 0, 2, 5),
        fpu(D, 0, 1, 2, 4),
        fpu(D, 0x3c, 0, 3, 4),
        fpu(D, 0x25, 0, 2, 0),
        fpu(L, 0x21, 0, 2, 0),
        0x35 << 26 | 1 << 16, // ldc1 $f1, 0($0)
        0x4c82_1045,          // luxc1 $f1
        0x4ca2_1061,          // madd.d $f1
    ] {
        assert_eq!(refused(0, word), RESERVED, "{word:08x}");
    }
    assert_eq!(refused(0, fpu(D, 0x24, 1, 2, 0)), None, "a word goes to any register");
    assert_eq!(refused(FR, fpu(D, 0, 1, 3, 5)), None);
}

#[test]
fn an_enabled_exception_changes_causes_only() {
    let mut board = board(FR, &[fpu(D, 3, 0, 2, 4)]);
    let core = board.cpu.core_mut();
    core.set(FCSR, 1 << 10 | 1 << 2);
    core.set(fpr(2), 1.0_f64.to_bits());
    core.set(fpr(0), 77);
    board.run(1);
    let core = board.cpu.core();
    assert_eq!(board.exception(), Exception::FloatingPoint as u32);
    assert_eq!((core.get(FCSR), core.get(fpr(0))), (1 << 15 | 1 << 10 | 1 << 2, 77));
    assert_eq!(core.isa.cp0.epc(), 0x8000_1000);
}
