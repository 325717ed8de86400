//! Accesses of a guest to a board's devices, whatever they are: in any order, of any size, at any place of what is mapped or beside it,
//! while time passes. None of them ends the process.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use flatview::{AddressSpace, Be, Le, MemTxAttrs};
use flatview_board::{Machine, MachineConfig};
use libfuzzer_sys::{arbitrary, fuzz_target};

#[derive(Debug, Arbitrary)]
enum Act {
    Load { place: Place, size: u8, swapped: bool },
    Store { place: Place, size: u8, swapped: bool, value: u64 },
    Read { place: Place, len: u16 },
    Write { place: Place, bytes: [u8; 13] },
    Peek { place: Place },
    Wait { ns: u32 },
}

/// A place in what is mapped, or anywhere.
#[derive(Debug, Arbitrary)]
struct Place {
    ports: bool,
    range: u8,
    offset: u16,
    anywhere: Option<u64>,
}

const BOARDS: [&str; 3] = ["40p", "mips", "cpiom"];

/// Where something answers in a space, as the board begins: first addresses and lengths. RAM is left to others.
fn devices(space: &AddressSpace) -> Vec<(u64, u64)> {
    let sections = space.sections().expect("a space that is there");
    sections.filter(|s| !s.is_ram()).map(|s| (s.offset_in_space, s.last() - s.offset_in_space)).collect()
}

struct Board {
    machine: Arc<Machine>,
    spaces: [AddressSpace; 2],
    places: [Vec<(u64, u64)>; 2],
}

impl Board {
    fn new(name: &str) -> Self {
        let config = MachineConfig {
            start_stopped: true,
            only_firmware_dirs: true,
            nodefaults: true,
            // Without firmware, and time that moves only when told.
            qtest: true,
            ..MachineConfig::new(name)
        };
        let machine = Machine::new(config).expect("a board that needs nothing");
        let spaces = [machine.cpu_space(), machine.io_space()];
        let places = [devices(&spaces[0]), devices(&spaces[1])];
        Self { machine, spaces, places }
    }

    fn address(&self, place: &Place) -> (&AddressSpace, u64) {
        let which = usize::from(place.ports);
        let (space, places) = (&self.spaces[which], &self.places[which]);
        let address = match (place.anywhere, places.get(usize::from(place.range) % places.len().max(1))) {
            (None, Some((start, more))) => start + u64::from(place.offset) % more.saturating_add(1),
            (anywhere, _) => anywhere.unwrap_or(place.offset.into()),
        };
        (space, address)
    }
}

fuzz_target!(|input: (u8, Vec<Act>)| {
    let (which, acts) = input;
    let board = Board::new(BOARDS[usize::from(which) % BOARDS.len()]);
    for act in acts.iter().take(1024) {
        carry_out(&board, act);
    }
});

fn carry_out(board: &Board, act: &Act) {
    match act {
        Act::Load { place, size, swapped } => {
            let (space, addr) = board.address(place);
            let reader = space.reader();
            // What a device answers is its own business.
            let _ = match (size % 4, swapped) {
                (0, _) => reader.load::<Le, u8>(addr).map(u64::from),
                (1, false) => reader.load::<Le, u16>(addr).map(u64::from),
                (1, true) => reader.cpu_load::<Be, u16>(addr).map(u64::from),
                (2, false) => reader.load::<Le, u32>(addr).map(u64::from),
                (2, true) => reader.cpu_load::<Be, u32>(addr).map(u64::from),
                (_, false) => reader.load::<Le, u64>(addr),
                (_, true) => reader.cpu_load::<Be, u64>(addr),
            };
        }
        Act::Store { place, size, swapped, value } => {
            let (space, addr) = board.address(place);
            let reader = space.reader();
            let _ = match (size % 4, swapped) {
                (0, _) => reader.store::<Le, u8>(addr, *value as u8),
                (1, false) => reader.store::<Le, u16>(addr, *value as u16),
                (1, true) => reader.cpu_store::<Be, u16>(addr, *value as u16),
                (2, false) => reader.store::<Le, u32>(addr, *value as u32),
                (2, true) => reader.cpu_store::<Be, u32>(addr, *value as u32),
                (_, false) => reader.store::<Le, u64>(addr, *value),
                (_, true) => reader.cpu_store::<Be, u64>(addr, *value),
            };
        }
        Act::Read { place, len } => {
            let (space, addr) = board.address(place);
            let mut bytes = vec![0; usize::from(*len) % 600];
            let _ = space.reader().port(MemTxAttrs::UNSPECIFIED).read(addr, &mut bytes);
        }
        Act::Write { place, bytes } => {
            let (space, addr) = board.address(place);
            let _ = space.reader().write(addr, bytes);
        }
        Act::Peek { place } => {
            let (space, addr) = board.address(place);
            let _ = space.reader().peek(addr, &mut [0; 16]);
        }
        Act::Wait { ns } => {
            let _ = board.machine.clock().step(Some(i64::from(*ns)));
        }
    }
}
