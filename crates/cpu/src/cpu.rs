//! A CPU that runs: block after block, looking up between them.
//!
//! What it is: the choice of the next block, and everything that happens between two: interrupts, requests, breakpoints,
//! code that was written. What it is not: a thread, a clock or a board. What must always hold: between two calls of
//! [`Cpu::run`] the guest's state is that between two instructions.

use std::collections::BTreeSet;
use std::sync::Arc;

use flatview::{AddressSpace, Be, ListenerId, Memory, MemoryError, MemoryListener};
use flatview_device::{Executed, LogMask};

use crate::cache::{BlockId, Cache, Key};
use crate::core::Core;
use crate::inputs::Inputs;
use crate::interp::{self, Ran};
use crate::isa::{BusError, Isa};
use crate::map_changes::MapChanges;
use crate::tlb::{Kind, PAGE_SIZE};
use crate::trace::Fetched;
use crate::watch::Watches;

/// Why [`Cpu::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// So many instructions were done as were asked for, or a few more; or fewer, because exceptions follow each other without one.
    Done,
    /// [`Inputs::stop`] asked for it.
    Asked,
    /// The guest waits for an interrupt.
    Waiting,
    /// Before an instruction with a breakpoint.
    Breakpoint,
    /// A watcher stopped it, before an instruction; behind it, where it is one that accesses memory in several ways
    /// (unaligned and linked accesses).
    Watched,
}

/// Instructions in one block.
const MOST: usize = 64;
/// Exceptions without an instruction between them: a guest that gets along takes two or three.
const FRUITLESS: u32 = 64;
/// In the mode, beside what the instruction set has there: one instruction a block.
pub(crate) const STEP: u32 = 1 << 31;

/// A guest CPU.
pub struct Cpu<I: Isa> {
    pub(crate) core: Core<I>,
    cache: Cache,
    /// A block that is not kept, because its code is not in memory.
    once: Option<crate::ir::Code>,
    breakpoints: BTreeSet<u64>,
    /// The breakpoint that was reported, and is passed when it goes on.
    reported: Option<u64>,
    /// A debugger has set the program counter since it stopped.
    jumped: bool,
    /// Interrupts wait: a debugger steps.
    masked: bool,
    /// An exception was taken.
    faulted: bool,
    watches_seen: u64,
    memory: Memory,
    listener: Option<(ListenerId, Arc<MapChanges>)>,
    instructions: u64,
}

impl<I: Isa> std::fmt::Debug for Cpu<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("core", &self.core)
            .field("blocks", &self.cache.len())
            .finish_non_exhaustive()
    }
}

impl<I: Isa> Drop for Cpu<I> {
    fn drop(&mut self) {
        if let Some((id, _)) = self.listener.take() {
            // It fails only if the memory is in an update of this thread, which then tells nobody who has gone.
            let _ = self.memory.remove_listener(id);
        }
    }
}

impl<I: Isa> Cpu<I> {
    /// A CPU that sees memory through `space`, as after a reset.
    ///
    /// # Errors
    /// What registering the listener gives that tells it of changes of the map.
    pub fn new(isa: I, memory: &Memory, space: &AddressSpace) -> Result<Self, MemoryError> {
        let mut core = Core::new(isa, memory, space)?;
        I::reset(&mut core);
        let changes = MapChanges::new(space.id(), Arc::clone(core.inputs()));
        let id = memory.add_listener(Arc::clone(&changes) as Arc<dyn MemoryListener>)?;
        Ok(Self {
            core,
            cache: Cache::new(),
            once: None,
            breakpoints: BTreeSet::new(),
            reported: None,
            jumped: false,
            masked: false,
            faulted: false,
            watches_seen: 0,
            memory: memory.clone(),
            listener: Some((id, changes)),
            instructions: 0,
        })
    }

    /// The guest's state.
    #[must_use]
    pub fn core(&self) -> &Core<I> {
        &self.core
    }

    /// The guest's state, to change it.
    #[must_use]
    pub fn core_mut(&mut self) -> &mut Core<I> {
        // Whoever changes it may change what code means.
        self.core.flush();
        &mut self.core
    }

    /// What reaches it from outside.
    #[must_use]
    pub fn inputs(&self) -> &Arc<Inputs> {
        self.core.inputs()
    }

    /// Who watches its accesses.
    #[must_use]
    pub fn watches(&self) -> &Arc<Watches> {
        &self.core.watches
    }

    /// How many instructions it has done. One that faulted does not count.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.instructions
    }

    /// How many blocks are kept.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.cache.len()
    }

    /// Lets go of the memory map, so that what it replaced can be freed; called before the thread waits for long.
    pub fn park(&mut self) {
        self.core.reader.park();
    }

    /// As after power on, or by a reset line. Memory is left as it is.
    pub fn reset(&mut self) {
        self.tell_reset();
        I::reset(&mut self.core);
        self.core.flush();
        self.core.passing = false;
        self.reported = None;
        self.jumped = false;
    }

    /// Stops before the instruction at a virtual address from now on; whether it did not before.
    pub fn add_breakpoint(&mut self, pc: u64) -> bool {
        // Blocks end before breakpoints.
        self.drop_code();
        self.breakpoints.insert(pc)
    }

    /// No longer; whether it did.
    pub fn remove_breakpoint(&mut self, pc: u64) -> bool {
        self.drop_code();
        self.breakpoints.remove(&pc)
    }

    /// Passes a breakpoint at the address of the next instruction when it goes on, as after stopping there; not if a debugger
    /// has set the program counter since ([`set_debug_register`](Self::set_debug_register)).
    pub fn pass_breakpoint(&mut self) {
        self.reported = (!std::mem::take(&mut self.jumped)).then(|| I::pc(&self.core));
    }

    /// Whether it stops before the instruction at a virtual address.
    #[must_use]
    pub fn has_breakpoint(&self, pc: u64) -> bool {
        self.breakpoints.contains(&pc)
    }

    /// After [`Exit::Watched`]: does the instruction that it stopped before, unless that is done.
    pub fn finish_watched(&mut self) {
        if self.core.passing {
            let _ = self.step_masked();
        }
    }

    /// Sets a register as a debugger numbers them. See [`Isa::set_debug_register`].
    pub fn set_debug_register(&mut self, n: usize, value: u64) {
        let before = I::pc(&self.core);
        I::set_debug_register(self.core_mut(), n, value);
        if I::pc(&self.core) != before {
            self.jumped = true;
            self.reported = None;
            self.core.passing = false;
        }
    }

    /// Translates all code anew, because somebody else wrote it past this CPU.
    pub fn forget_code(&mut self) {
        self.drop_code();
    }

    fn drop_code(&mut self) {
        self.cache.drop_all();
        self.core.code_pages.clear();
    }

    /// Does one instruction, passing a breakpoint on it, or takes one exception or interrupt, and stops before the handler.
    pub fn step(&mut self) -> Exit {
        self.run_in(1, STEP)
    }

    /// The same, but interrupts wait: what debuggers want.
    pub fn step_masked(&mut self) -> Exit {
        self.masked = true;
        let exit = self.run_in(1, STEP);
        self.masked = false;
        exit
    }

    /// Keeps `executed` at the number of instructions done: right at each load, store and helper's call, and whenever it does
    /// not run. [`run`](Self::run) does no more than it is asked for then. For a clock that goes with instructions.
    pub fn count_for(&mut self, executed: Executed) {
        executed.set(self.instructions);
        self.core.executed = Some(executed);
    }

    /// Does `budget` instructions, and the rest of the block they end in; fewer if there is a reason to come back, such as that a
    /// guest has no memory at its exception vectors and takes one exception after the other.
    pub fn run(&mut self, budget: u64) -> Exit {
        self.run_in(budget, 0)
    }

    fn run_in(&mut self, budget: u64, how: u32) -> Exit {
        let until = self.instructions.saturating_add(budget);
        self.core.leave = true;
        self.faulted = false;
        // Exceptions since the last instruction that was done.
        let (mut fruitless, mut done) = (0, self.instructions);
        loop {
            // A single step ends before an interrupt that comes next.
            if how & STEP != 0 && self.instructions >= until {
                return Exit::Done;
            }
            let attention = self.core.inputs().take_attention();
            if std::mem::take(&mut self.core.leave) || attention {
                self.look_up();
            }
            if attention {
                self.core.note_log();
                if self.core.inputs().take_stop() {
                    return Exit::Asked;
                }
            }
            if I::is_waiting(&self.core) && !I::wakes(&mut self.core) {
                return Exit::Waiting;
            }
            if !self.masked
                && let Some(fault) = I::interrupt(&mut self.core)
            {
                let place = I::place(&self.core);
                I::enter(&mut self.core, fault, place);
                self.faulted = true;
            }
            let faulted = std::mem::take(&mut self.faulted);
            fruitless = if faulted && self.instructions == done { fruitless + 1 } else { 0 };
            done = self.instructions;
            if self.instructions >= until || faulted && how & STEP != 0 || fruitless > FRUITLESS {
                return Exit::Done;
            }
            // Past what was watched and reported goes one instruction alone.
            let exit = match self.core.passing {
                true => self.run_blocks(self.instructions + 1, how | STEP),
                false => self.run_blocks(until, how),
            };
            if let Some(exit) = exit {
                return exit;
            }
        }
    }

    /// What outside has to say.
    fn look_up(&mut self) {
        // This is done after whatever a device does: what is empty is passed over.
        let changed = self.listener.as_ref().map(|(_, changes)| changes.take()).unwrap_or_default();
        for (first, last) in &changed {
            // What was memory may be a device now.
            self.core.tlb.forget_physical(*first, *last);
        }
        let foreign = if self.core.foreign.is_any() { self.core.foreign.written() } else { Vec::new() };
        for page in &foreign {
            // It is watched no longer, so what is translated from it next must see to that.
            self.core.code_pages.remove(page);
        }
        let foreign = foreign.into_iter().map(|page| (page, page | (PAGE_SIZE - 1)));
        let written = std::mem::take(&mut self.core.written);
        for (first, last) in changed.into_iter().chain(written).chain(foreign) {
            for page in self.cache.drop_range(first, last) {
                self.core.code_pages.remove(&page);
            }
        }
        let watches = self.core.watches.version();
        if watches != self.watches_seen {
            self.watches_seen = watches;
            self.core.tlb.flush();
        }
    }

    /// Runs blocks until there is something to look up for (`None`), or a reason to come back.
    fn run_blocks(&mut self, until: u64, how: u32) -> Option<Exit> {
        // The block that was run last, and the end it took.
        let mut last: Option<(BlockId, usize)> = None;
        // Blocks of one instruction each, so that it ends exactly where it should.
        let mut single = 0;
        loop {
            if self.core.leaves() || self.instructions >= until {
                return None;
            }
            if std::mem::take(&mut self.core.moved) {
                self.cache.begin_epoch();
                // Where only each block is looked up to be told, the places stay known.
                if !std::mem::take(&mut self.core.told) {
                    self.core.code_places.clear();
                }
                last = None;
            }
            let pc = I::pc(&self.core);
            if !self.breakpoints.is_empty() && how & STEP == 0 && self.is_break(pc) {
                return Some(Exit::Breakpoint);
            }
            let linked = last.and_then(|(id, end)| self.cache.linked(self.cache.get(id)?, end));
            let found = match linked {
                Some(id) => Ok(Some(id)),
                None => self.block_at(pc, how | single, until),
            };
            let found = match found {
                Ok(Some(id)) if self.core.executed.is_some() && self.is_longer(id, until) => {
                    (single, last) = (STEP, None);
                    self.block_at(pc, how | single, until)
                }
                found => found,
            };
            let id = match found {
                Ok(id) => id,
                Err(fault) => {
                    let place = I::place(&self.core);
                    I::enter(&mut self.core, fault, place);
                    self.faulted = true;
                    return None;
                }
            };
            if linked.is_none()
                && let (Some((block, end)), Some(id)) = (last, id)
            {
                self.cache.link(block, end, id);
            }
            let code = match id {
                Some(id) => self.cache.get(id).map(|b| &b.code),
                None => self.once.as_ref(),
            };
            let code = code?;
            self.core.at = pc;
            self.core.before = self.instructions;
            let ran = interp::run(&mut self.core, code);
            self.core.passing = false;
            let all = code.insns.len();
            let (done, next) = match ran {
                Ran::Linked(end) => (all, id.map(|id| (id, end))),
                Ran::Elsewhere | Ran::Stopped => (all, None),
                Ran::Early(n) | Ran::Faulted(n) | Ran::Broken { done: n, .. } => (n, None),
            };
            self.instructions += done as u64;
            if let Some(executed) = &self.core.executed {
                executed.set(self.instructions);
            }
            last = next;
            if std::mem::take(&mut self.core.late) {
                return Some(Exit::Watched);
            }
            match ran {
                Ran::Linked(_) | Ran::Elsewhere => {}
                Ran::Broken { at_branch, .. } => {
                    if at_branch {
                        // The branch alone, so that the next instruction is the one that is stopped.
                        let _ = self.run_blocks(self.instructions + 1, how | STEP);
                    }
                    self.core.passing = true;
                    return Some(Exit::Watched);
                }
                Ran::Faulted(_) => {
                    self.faulted = true;
                    return None;
                }
                Ran::Stopped | Ran::Early(_) => return None,
            }
        }
    }

    /// Whether to stop before the instruction at `pc`: not twice for the same stop.
    fn is_break(&mut self, pc: u64) -> bool {
        if self.reported.take() == Some(pc) || !self.breakpoints.contains(&pc) {
            return false;
        }
        self.reported = Some(pc);
        true
    }

    /// The block at a place; `None` if it is [`once`](Self::once).
    #[inline]
    fn block_at(&mut self, pc: u64, how: u32, until: u64) -> Result<Option<BlockId>, I::Fault> {
        let mode = I::mode(&self.core) | how;
        match self.cache.at(pc, mode) {
            Some(id) => Ok(Some(id)),
            None => self.find(pc, mode, until),
        }
    }

    /// Whether a block reaches beyond a number of instructions.
    fn is_longer(&self, id: BlockId, until: u64) -> bool {
        let length = self.cache.get(id).map_or(0, |block| block.code.insns.len());
        length as u64 > until.saturating_sub(self.instructions)
    }

    /// Whether a block must be done in pieces, because so many instructions are wanted and no more.
    pub(crate) fn is_too_long(&self, id: Option<BlockId>, until: u64) -> bool {
        self.core.executed.is_some() && id.is_some_and(|id| self.is_longer(id, until))
    }

    /// The block at a place that is not known by its virtual address, translated if need be; `None` if it is [`once`](Self::once).
    #[inline(never)]
    fn find(&mut self, pc: u64, mode: u32, until: u64) -> Result<Option<BlockId>, I::Fault> {
        let mmu = I::fetch_mmu(&self.core);
        let phys = self.core.map_code(pc, mmu)?.phys;
        let id = self.find_at(pc, phys, mode)?;
        if self.core.logs(LogMask::BLOCKS) {
            self.tell_block(id, pc, phys, mode, until);
        }
        Ok(id)
    }

    /// The same, at a physical address.
    fn find_at(&mut self, pc: u64, phys: u64, mode: u32) -> Result<Option<BlockId>, I::Fault> {
        let key = Key { phys, pc, mode };
        self.core.code_places.insert(pc / PAGE_SIZE);
        if let Some(id) = self.cache.find(key) {
            return Ok(Some(id));
        }
        // Device registers are fetched when they are executed, each time.
        let kept = self.core.reader.host_ptr(phys, 4).is_some();
        if kept {
            if self.cache.is_full() {
                self.drop_code();
            }
            let page = phys & !(PAGE_SIZE - 1);
            if self.core.code_pages.insert(page) {
                self.core.tlb.look_at_writes(page);
                self.core.foreign.watch(page);
            }
        }
        let core = &self.core;
        let mut fetched = Fetched::at(core, pc);
        let mut fetch = |offset: u64| {
            let (va, phys) = (pc.wrapping_add(offset), phys.wrapping_add(offset));
            match core.reader.cpu_load::<Be, u32>(phys) {
                Ok(word) => {
                    fetched.note(va, word);
                    Ok(word)
                }
                Err(error) => match I::bus_error(core, &BusError { va, phys, kind: Kind::Fetch, error }) {
                    Some(fault) => Err(fault),
                    None => Ok(0),
                },
            }
        };
        let most = if kept && mode & STEP == 0 { self.room(pc) } else { 1 };
        let code = I::translate(core, pc, most, &mut fetch)?;
        fetched.tell(core, &code);
        if !kept {
            self.once = Some(code);
            return Ok(None);
        }
        Ok(Some(self.cache.insert(key, code)))
    }

    /// How many instructions there may be from `pc` on, so that the next breakpoint begins a block.
    fn room(&self, pc: u64) -> usize {
        let next = self.breakpoints.range(pc.saturating_add(1)..).next();
        next.map_or(MOST, |next| ((next - pc) / 4).clamp(1, MOST as u64) as usize)
    }
}
