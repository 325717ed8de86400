//! A guest whose exceptions have no handlers.

use std::sync::Arc;
use std::time::Duration;

use flatview::{RamBlock, Region};
use flatview_cpu::Exit;

use crate::support::{Board, asm::*};

#[test]
fn a_guest_whose_exception_vectors_are_nowhere_comes_back_and_goes_on_when_they_are_somewhere() {
    let mut board = Board::new();
    // So that the test ends if the CPU does not come back by itself.
    let inputs = Arc::clone(board.cpu.inputs());
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(10)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            inputs.stop();
        }
    });
    // After reset, with no memory there: each exception's handler is the next exception.
    let vector = 0x1fc0_0000;
    for _ in 0..3 {
        assert_eq!(board.cpu.run(1000), Exit::Done);
        assert_eq!(board.cpu.instructions(), 0);
    }
    let rom = board.memory.add(Region::ram("rom", RamBlock::anonymous("rom", 0x1000).unwrap())).unwrap();
    board.memory.map(board.memory.system(), vector, rom).unwrap();
    // The general exception's handler: a loop.
    board.program_at(vector + 0x380, &[b(-1), nop()]);
    assert_eq!(board.cpu.run(1000), Exit::Done);
    assert!(board.cpu.instructions() >= 1000);
    drop(done);
    watchdog.join().unwrap();
}
