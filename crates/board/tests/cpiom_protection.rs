//! What a change of the `cpiom` board's page protection costs, told by counts: of ranges that listeners hear of, of
//! bytes that those cover, and of regions that are there. A clock has no say.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::sync::{Arc, Mutex};

use flatview::{AddressSpace, Be, Delta, FlatView, ListenerError, MemoryListener, Section, SpaceDelta};
use flatview_board::{Machine, MachineConfig};

const CTRL: u64 = 0x2000_a000;
const PCODE: u64 = 0x2000_b000;
const PDATA: u64 = 0x2000_c000;
const PAGE: u64 = 8 << 10;
/// Pages that the RAM has.
const PAGES: u64 = 8192;
const WORDS: u64 = PAGES / 32;

/// What a commit told: ranges that are gone and that are new, of all spaces, the bytes that the gone ones had, and the
/// pages among these in which another region answers now, or the same one elsewhere: what a CPU has to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    gone: usize,
    new: usize,
    bytes: u128,
    pages: usize,
}

/// Pages of ranges that are gone in which somebody else answers now.
fn pages_given_away(delta: &SpaceDelta) -> usize {
    let who = |view: &FlatView, addr: u64| {
        view.lookup(addr).map(|range| (range.region(), range.offset() + (addr - range.start()), range.romd()))
    };
    let differs = |addr: &u64| who(delta.old_view(), *addr) != who(delta.new_view(), *addr);
    let of =
        |gone: Section| (gone.offset_in_space..=gone.last()).step_by(PAGE as usize).filter(differs).count();
    delta.removed().map(of).sum()
}

#[derive(Default)]
struct Counter(Mutex<Vec<Told>>);

impl MemoryListener for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let spaces = delta.spaces();
        self.0.lock().unwrap().push(Told {
            gone: spaces.iter().map(|space| space.removed().count()).sum(),
            new: spaces.iter().map(|space| space.added().count()).sum(),
            bytes: spaces.iter().flat_map(|space| space.removed()).map(|section| section.size).sum(),
            pages: spaces.iter().map(pages_given_away).sum(),
        });
        Ok(())
    }
}

struct Board {
    machine: Arc<Machine>,
    space: AddressSpace,
    counter: Arc<Counter>,
    words: Vec<u32>,
}

impl Board {
    /// A board with protection on; the pages for which it is said are protected.
    fn new(protected: impl Fn(u64) -> bool) -> Board {
        let config = MachineConfig { start_stopped: true, ..MachineConfig::new("cpiom") };
        let machine = Machine::new(config).unwrap();
        let space = machine.cpu_space();
        let mut board = Board { machine, space, counter: Arc::default(), words: vec![0; WORDS as usize] };
        for page in (0..PAGES).filter(|page| protected(*page)) {
            board.words[(page / 32) as usize] |= 1 << (31 - page % 32);
        }
        for word in 0..WORDS {
            board.set(PDATA + 4 * word, board.words[word as usize]);
        }
        board.set(CTRL, 1);
        board.machine.memory().add_listener(board.counter.clone()).unwrap();
        board.told();
        board
    }

    fn set(&self, addr: u64, value: u32) {
        self.space.reader().store::<Be, u32>(addr, value).unwrap();
    }

    /// What was told since this was last asked.
    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.counter.0.lock().unwrap())
    }

    /// Takes a page's protection away or gives it, and back again: what was told of each.
    fn flip(&self, page: u64) -> Vec<Told> {
        let (word, bit) = (page / 32, 1 << (31 - page % 32));
        let before = self.words[word as usize];
        self.set(PDATA + 4 * word, before ^ bit);
        self.set(PDATA + 4 * word, before);
        self.told()
    }

    fn ranges(&self) -> usize {
        self.space.view().unwrap().ranges().filter(|range| range.start() < PAGES * PAGE).count()
    }

    fn regions(&self) -> usize {
        self.machine.memory().regions().len()
    }
}

/// How many address spaces see the RAM; each is told of.
fn spaces(board: &Board) -> usize {
    let is_ram = |name: &str| name.starts_with("cpiom-sdram");
    let sees =
        |space: &AddressSpace| space.view().unwrap().lookup(0).is_some_and(|range| is_ram(range.name()));
    let seeing = board.machine.memory().spaces().iter().filter(|space| sees(space)).count();
    assert!(seeing > 0);
    seeing
}

#[test]
fn one_of_8192_alternating_pages_is_told_as_one_of_8() {
    let few = Board::new(|page| page < 8 && page % 2 == 0);
    let many = Board::new(|page| page % 2 == 0);
    assert_eq!((few.ranges(), many.ranges()), (8, 8192));
    let expected = few.flip(4);
    let spaces = spaces(&few);
    // A protected page between two that are not becomes one range with them, and three again.
    let (joined, apart) = (3 * spaces, spaces);
    let bytes = 3 * u128::from(PAGE) * spaces as u128;
    let off = Told { gone: joined, new: apart, bytes, pages: spaces };
    assert_eq!(expected, [off, Told { gone: apart, new: joined, ..off }], "of 8");
    for page in [2, 4, 30, 32, 34, 4094, 4096, 4098, 8188, 8190] {
        assert_eq!(many.flip(page), expected, "page {page} of 8192");
    }
    // The same of a page that is not protected.
    let expected = few.flip(3);
    for page in [3, 31, 33, 63, 4095, 4097, 8189] {
        assert_eq!(many.flip(page), expected, "page {page} of 8192");
    }
}

#[test]
fn one_page_of_a_run_of_8192_is_told_as_one_of_8() {
    let few = Board::new(|page| page < 8);
    let many = Board::new(|_| true);
    assert_eq!((few.ranges(), many.ranges()), (2, 1));
    // The run is one range however long, so its bytes are not compared; but only one page's answer changes.
    let counts =
        |told: Vec<Told>| told.iter().map(|told| (told.gone, told.new, told.pages)).collect::<Vec<_>>();
    let expected = counts(few.flip(4));
    let spaces = spaces(&few);
    assert_eq!(expected, [(spaces, 3 * spaces, spaces), (3 * spaces, spaces, spaces)], "of 8");
    for page in [1, 31, 32, 33, 4095, 4096, 8190] {
        assert_eq!(counts(many.flip(page)), expected, "page {page} of 8192");
    }
}

#[test]
fn a_word_that_says_the_same_again_changes_nothing() {
    let many = Board::new(|page| page % 2 == 0);
    for word in 0..WORDS {
        many.set(PDATA + 4 * word, many.words[word as usize]);
        // The other table protects the same pages once more.
        many.set(PCODE + 4 * word, many.words[word as usize]);
        many.set(PCODE + 4 * word, 0);
    }
    let told = many.told();
    assert!(told.iter().all(|told| (told.gone, told.new) == (0, 0)), "{told:?}");
}

#[test]
fn regions_do_not_pile_up_whatever_a_guest_writes() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let board = Board::new(|_| false);
    let bare = board.regions();
    for step in 0..4000 {
        match random.u8(..) {
            0..2 => board.set(CTRL, random.u32(0..2)),
            2..8 => {
                // All pages of a part, one by one.
                let first = random.u64(0..WORDS - 4);
                let value = [0, u32::MAX, 0xaaaa_aaaa, 0x5555_5555][random.usize(0..4)];
                (first..first + 4).for_each(|word| board.set(PDATA + 4 * word, value));
            }
            _ => {
                let table = if random.bool() { PCODE } else { PDATA };
                board.set(table + 4 * random.u64(0..WORDS), random.u32(..) & random.u32(..));
            }
        }
        // An overlay for each run of protected pages, no more: they are the ranges of the RAM that have its name.
        if step % 64 == 0 {
            let view = board.space.view().unwrap();
            let overlays = view.ranges().filter(|range| range.name() == "cpiom-sdram-protected").count();
            assert_eq!(board.regions(), bare + overlays, "seed {seed} step {step}");
        }
    }
    board.set(CTRL, 0);
    assert_eq!((board.regions(), board.ranges()), (bare, 1), "seed {seed}");
}
