//! A CPU's state, and its way to memory.
//!
//! What it is: the guest's registers, its MMU's cache, and loads and stores as the guest's instructions do them: through
//! the soft TLB, then through the [`Reader`], which finds RAM in a few instructions and everything else by the flat view.
//! What it is not: which instructions there are ([`Isa`]) or in which order they run ([`Cpu`](crate::Cpu)). What must
//! always hold: an access that faults has changed nothing of the guest.

use std::collections::HashSet;
use std::sync::Arc;

use flatview::{AddressSpace, Be, Le, MemTxError, Memory, MemoryError, Reader};
use flatview_device::{Executed, Log, LogMask};

use crate::foreign::ForeignWrites;
use crate::inputs::Inputs;
use crate::ir::{MemOp, Var};
use crate::isa::{BusError, Isa};
use crate::tlb::{Kind, Mapping, PAGE_SIZE, Tlb};
use crate::watch::{Verdict, WatchedAccess, Watches};

/// So many pages are forgotten one by one.
const FEW_PAGES: u64 = 16;

/// Why an instruction did not go through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble<F> {
    /// The guest takes an exception.
    Fault(F),
    /// A watcher stops the CPU before the instruction.
    Break,
}

/// The state of a guest CPU with instruction set `I`.
pub struct Core<I: Isa> {
    /// Slots of the guest's state, and temporaries.
    vars: Box<[u64; Var::COUNT]>,
    /// What the instruction set keeps besides.
    pub isa: I,
    pub(crate) tlb: Tlb,
    pub(crate) reader: Reader,
    inputs: Arc<Inputs>,
    pub(crate) watches: Arc<Watches>,
    /// Physical pages with code that was translated.
    pub(crate) code_pages: HashSet<u64>,
    /// Virtual pages where code was looked up since what is known of addresses was void last.
    pub(crate) code_places: HashSet<u64>,
    pub(crate) foreign: ForeignWrites,
    /// Physical code addresses (first and last) that were written since the cache was last told.
    pub(crate) written: Vec<(u64, u64)>,
    /// Code was written: the block is left behind the instruction.
    pub(crate) leave: bool,
    /// What is known of addresses is void: blocks must be looked up anew.
    pub(crate) moved: bool,
    /// They are only looked up anew so that they are told.
    pub(crate) told: bool,
    /// Watchers do not stop the instruction that a stop was reported for.
    pub(crate) passing: bool,
    /// A watcher stopped an instruction that could not be left half done.
    pub(crate) late: bool,
    /// The address of the block that runs.
    pub(crate) at: u64,
    /// How many instructions were done before it.
    pub(crate) before: u64,
    /// Who wants to know, at each load, store and call, how many instructions were done.
    pub(crate) executed: Option<Executed>,
    /// Where it tells what it does.
    pub(crate) log: Log,
    /// What of that is wanted, as was noted last.
    pub(crate) logged: LogMask,
    /// Its number there.
    pub(crate) number: usize,
}

impl<I: Isa> std::fmt::Debug for Core<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("pc", &I::pc(self)).finish_non_exhaustive()
    }
}

impl<I: Isa> Core<I> {
    pub(crate) fn new(isa: I, memory: &Memory, space: &AddressSpace) -> Result<Self, MemoryError> {
        let inputs = Arc::new(Inputs::default());
        Ok(Self {
            vars: Box::new([0; Var::COUNT]),
            isa,
            tlb: Tlb::new(),
            reader: space.reader(),
            watches: Arc::new(Watches::new(Arc::clone(&inputs))),
            inputs,
            code_pages: HashSet::new(),
            code_places: HashSet::new(),
            foreign: ForeignWrites::new(memory, space.root()?)?,
            written: Vec::new(),
            leave: false,
            moved: false,
            told: false,
            passing: false,
            late: false,
            at: 0,
            before: 0,
            executed: None,
            log: Log::none(),
            logged: LogMask::NONE,
            number: 0,
        })
    }

    /// The value of a variable.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "an index is below 256, as it is made from a byte")]
    pub fn get(&self, var: Var) -> u64 {
        self.vars[var.index()]
    }

    /// Sets a variable.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "as for `get`")]
    pub fn set(&mut self, var: Var, value: u64) {
        self.vars[var.index()] = value;
    }

    /// The low half of a variable.
    #[inline(always)]
    #[must_use]
    pub fn get32(&self, var: Var) -> u32 {
        self.get(var) as u32
    }

    /// Sets all slots to 0.
    pub fn clear(&mut self) {
        *self.vars = [0; Var::COUNT];
    }

    /// What reaches it from outside.
    #[must_use]
    pub fn inputs(&self) -> &Arc<Inputs> {
        &self.inputs
    }

    /// Forgets what the guest's MMU said, because it changed.
    pub fn flush(&mut self) {
        self.tlb.flush();
        (self.moved, self.told) = (true, false);
    }

    /// Forgets what the guest's MMU said of a range of virtual addresses, first to last.
    pub fn flush_range(&mut self, first: u64, last: u64) {
        let page = |va: u64| va / PAGE_SIZE;
        if page(last).saturating_sub(page(first)) > FEW_PAGES {
            return self.flush();
        }
        for page in page(first)..=page(last) {
            self.tlb.flush_page(page * PAGE_SIZE);
            if self.code_places.contains(&page) {
                (self.moved, self.told) = (true, false);
            }
        }
    }

    /// Whether the block is to be left behind the instruction that it is at.
    #[inline(always)]
    pub(crate) fn leaves(&self) -> bool {
        self.leave || self.inputs.is_attention()
    }

    /// A load of the guest's; the value is extended as it says.
    #[inline(always)]
    pub(crate) fn load(&mut self, va: u64, mem: MemOp) -> Result<u64, Trouble<I::Fault>> {
        let value = match self.tlb.read(mem.mmu, va, mem.size) {
            Some(phys) => match self.read(phys, mem) {
                Ok(value) => value,
                Err(error) => self.failed(va, phys, Kind::Read, error)?,
            },
            None => self.load_slowly(va, mem)?,
        };
        Ok(match (mem.signed, mem.size) {
            (true, 1) => u64::from(value as i8 as u32),
            (true, 2) => u64::from(value as i16 as u32),
            _ => value,
        })
    }

    /// A store of the guest's.
    #[inline(always)]
    pub(crate) fn store(&mut self, va: u64, value: u64, mem: MemOp) -> Result<(), Trouble<I::Fault>> {
        match self.tlb.write(mem.mmu, va, mem.size) {
            Some(phys) => match self.write(phys, value, mem) {
                Ok(()) => Ok(()),
                Err(error) => self.failed(va, phys, Kind::Write, error).map(drop),
            },
            None => self.store_slowly(va, value, mem),
        }
    }

    /// A load that an instruction does by a helper. See [`Op::Load`](crate::ir::Op::Load).
    ///
    /// # Errors
    /// The guest's exception.
    pub fn helper_load(&mut self, va: u64, mem: MemOp) -> Result<u64, I::Fault> {
        match self.load(va, mem) {
            Ok(value) => Ok(value),
            Err(Trouble::Fault(fault)) => Err(fault),
            // A helper cannot be left half done: it goes on, and the CPU stops behind the instruction.
            Err(Trouble::Break) => {
                (self.late, self.leave) = (true, true);
                self.passing = true;
                let again = self.load(va, mem);
                self.passing = false;
                match again {
                    Ok(value) => Ok(value),
                    Err(Trouble::Fault(fault)) => Err(fault),
                    Err(Trouble::Break) => Ok(0),
                }
            }
        }
    }

    /// A store that an instruction does by a helper. See [`Op::Store`](crate::ir::Op::Store).
    ///
    /// # Errors
    /// The guest's exception.
    pub fn helper_store(&mut self, va: u64, value: u64, mem: MemOp) -> Result<(), I::Fault> {
        match self.store(va, value, mem) {
            Ok(()) => Ok(()),
            Err(Trouble::Fault(fault)) => Err(fault),
            Err(Trouble::Break) => {
                (self.late, self.leave) = (true, true);
                self.passing = true;
                let again = self.store(va, value, mem);
                self.passing = false;
                match again {
                    Err(Trouble::Fault(fault)) => Err(fault),
                    Ok(()) | Err(Trouble::Break) => Ok(()),
                }
            }
        }
    }

    /// A store that an instruction does by a helper if `expected` stands there, in one step, so that no store of another
    /// bus master's is lost between; whether it was done. What is no RAM is read and written in two.
    ///
    /// # Errors
    /// The guest's exception.
    pub fn helper_compare_exchange(
        &mut self,
        va: u64,
        expected: u64,
        new: u64,
        mem: MemOp,
    ) -> Result<bool, I::Fault> {
        if va & u64::from(mem.size.wrapping_sub(1)) != 0 {
            return Err(I::misaligned(self, va, Kind::Write));
        }
        let phys = I::map(self, va, Kind::Write, mem.mmu)?.phys;
        let exchanged = match self.watches.on_page(phys) {
            true => None,
            false => self.exchange(phys, expected, new, mem),
        };
        if let Some(done) = exchanged {
            if done && self.code_pages.contains(&(phys & !(PAGE_SIZE - 1))) {
                self.stored_over_code(phys, mem.size);
            }
            return Ok(done);
        }
        if self.helper_load(va, MemOp { signed: false, ..mem })? != cut(expected, mem.size) {
            return Ok(false);
        }
        self.helper_store(va, new, mem)?;
        Ok(true)
    }

    /// Whether it was written; `None` where there is no RAM to do so with.
    fn exchange(&self, phys: u64, expected: u64, new: u64, mem: MemOp) -> Option<bool> {
        let reader = &self.reader;
        let (e4, n4) = (expected as u32, new as u32);
        match (mem.size, mem.big) {
            (4, true) => reader.compare_exchange::<Be, u32>(phys, e4, n4).ok().map(|r| r.is_ok()),
            (4, false) => reader.compare_exchange::<Le, u32>(phys, e4, n4).ok().map(|r| r.is_ok()),
            (8, true) => reader.compare_exchange::<Be, u64>(phys, expected, new).ok().map(|r| r.is_ok()),
            (8, false) => reader.compare_exchange::<Le, u64>(phys, expected, new).ok().map(|r| r.is_ok()),
            _ => None,
        }
    }

    #[inline(always)]
    fn read(&self, phys: u64, mem: MemOp) -> Result<u64, MemTxError> {
        let reader = &self.reader;
        Ok(match (mem.size, mem.big) {
            (1, _) => reader.cpu_load::<Le, u8>(phys)?.into(),
            (2, true) => reader.cpu_load::<Be, u16>(phys)?.into(),
            (2, false) => reader.cpu_load::<Le, u16>(phys)?.into(),
            (4, true) => reader.cpu_load::<Be, u32>(phys)?.into(),
            (4, false) => reader.cpu_load::<Le, u32>(phys)?.into(),
            (_, true) => reader.cpu_load::<Be, u64>(phys)?,
            (_, false) => reader.cpu_load::<Le, u64>(phys)?,
        })
    }

    #[inline(always)]
    fn write(&self, phys: u64, value: u64, mem: MemOp) -> Result<(), MemTxError> {
        let reader = &self.reader;
        match (mem.size, mem.big) {
            (1, _) => reader.cpu_store::<Le, u8>(phys, value as u8),
            (2, true) => reader.cpu_store::<Be, u16>(phys, value as u16),
            (2, false) => reader.cpu_store::<Le, u16>(phys, value as u16),
            (4, true) => reader.cpu_store::<Be, u32>(phys, value as u32),
            (4, false) => reader.cpu_store::<Le, u32>(phys, value as u32),
            (_, true) => reader.cpu_store::<Be, u64>(phys, value),
            (_, false) => reader.cpu_store::<Le, u64>(phys, value),
        }
    }

    #[cold]
    fn failed(
        &mut self,
        va: u64,
        phys: u64,
        kind: Kind,
        error: MemTxError,
    ) -> Result<u64, Trouble<I::Fault>> {
        match I::bus_error(self, &BusError { va, phys, kind, error }) {
            Some(fault) => Err(Trouble::Fault(fault)),
            None => Ok(0),
        }
    }

    /// What the MMU says, and what is there. The soft TLB remembers it where nothing has to be looked at.
    fn mapping(&mut self, va: u64, kind: Kind, mmu: u8) -> Result<(Mapping, Page), Trouble<I::Fault>> {
        let mapping = I::map(self, va, kind, mmu).map_err(Trouble::Fault)?;
        let watched = self.watches.on_page(mapping.phys);
        let page = mapping.phys & !(PAGE_SIZE - 1);
        // A device may do anything when it is accessed, and so its pages are not remembered.
        let is_memory = self.reader.host_ptr(page, PAGE_SIZE).is_some();
        // A page that is partly a device may have code in the rest of it.
        let has_code = (is_memory || kind == Kind::Write) && self.code_pages.contains(&page);
        if !watched && is_memory {
            self.tlb.fill(mmu, va, &mapping, !has_code);
        }
        Ok((mapping, Page { watched, is_memory, has_code }))
    }

    /// A device was accessed, which may have written code. Lines that it moved ask for attention themselves.
    fn after_device(&mut self) {
        self.leave |= self.foreign.is_any();
    }

    #[inline(never)]
    fn load_slowly(&mut self, va: u64, mem: MemOp) -> Result<u64, Trouble<I::Fault>> {
        if let Some(bytes) = self.bytes_of(va, Kind::Read, mem)? {
            let mut value = 0;
            for (at, shift) in bytes {
                value |= self.load(at, MemOp { size: 1, signed: false, ..mem })? << shift;
            }
            return Ok(value);
        }
        let (mapping, page) = self.mapping(va, Kind::Read, mem.mmu)?;
        let access =
            WatchedAccess { va, phys: mapping.phys, size: mem.size, kind: Kind::Read, pc: self.at, value: 0 };
        let watchers =
            if page.watched { self.watches.of(access.phys, mem.size, Kind::Read) } else { Vec::new() };
        for watcher in &watchers {
            match watcher.before(&access) {
                Verdict::Proceed => {}
                Verdict::Instead(value) => return Ok(cut(value, mem.size)),
                Verdict::Refuse => return self.failed(va, access.phys, Kind::Read, MemTxError::decode()),
                Verdict::Break if self.passing => {}
                Verdict::Break => return Err(Trouble::Break),
            }
        }
        let loaded = self.read(access.phys, mem);
        if !page.is_memory {
            self.after_device();
        }
        let value = match loaded {
            Ok(value) => value,
            Err(error) => self.failed(va, access.phys, Kind::Read, error)?,
        };
        Ok(watchers.iter().fold(value, |v, watcher| cut(watcher.loaded(&access, v), mem.size)))
    }

    #[inline(never)]
    fn store_slowly(&mut self, va: u64, value: u64, mem: MemOp) -> Result<(), Trouble<I::Fault>> {
        if let Some(bytes) = self.bytes_of(va, Kind::Write, mem)? {
            // All or nothing: where one byte cannot be stored none is.
            for (at, _) in bytes.clone() {
                self.mapping(at, Kind::Write, mem.mmu)?;
            }
            for (at, shift) in bytes {
                self.store(at, value >> shift & 0xff, MemOp { size: 1, ..mem })?;
            }
            return Ok(());
        }
        let (mapping, page) = self.mapping(va, Kind::Write, mem.mmu)?;
        let phys = mapping.phys;
        let mut access = WatchedAccess {
            va,
            phys,
            size: mem.size,
            kind: Kind::Write,
            pc: self.at,
            value: cut(value, mem.size),
        };
        let watchers = if page.watched { self.watches.of(phys, mem.size, Kind::Write) } else { Vec::new() };
        for watcher in &watchers {
            match watcher.before(&access) {
                Verdict::Proceed => {}
                Verdict::Instead(value) => access.value = cut(value, mem.size),
                Verdict::Refuse => return self.failed(va, phys, Kind::Write, MemTxError::decode()).map(drop),
                Verdict::Break if self.passing => {}
                Verdict::Break => return Err(Trouble::Break),
            }
        }
        let stored = self.write(phys, access.value, mem);
        if !page.is_memory {
            self.after_device();
        }
        if let Err(error) = stored {
            self.failed(va, phys, Kind::Write, error)?;
        }
        if page.has_code {
            self.stored_over_code(phys, mem.size);
        }
        Ok(())
    }

    /// Code that was stored over is translated anew.
    fn stored_over_code(&mut self, phys: u64, size: u8) {
        self.written.push((phys, phys | u64::from(size - 1)));
        self.leave = true;
    }

    /// For an access that lies in two pages, and may: its bytes, with the place of each in the value.
    fn bytes_of(&self, va: u64, kind: Kind, mem: MemOp) -> Result<Option<Bytes>, Trouble<I::Fault>> {
        let over = u64::from(mem.size.wrapping_sub(1));
        if va & over == 0 {
            return Ok(None);
        }
        if mem.aligned {
            return Err(Trouble::Fault(I::misaligned(self, va, kind)));
        }
        let crosses = va % PAGE_SIZE + over >= PAGE_SIZE;
        Ok(crosses.then_some(Bytes { va, next: 0, size: mem.size, big: mem.big }))
    }
}

/// What the CPU must know of a physical page.
#[derive(Debug, Clone, Copy)]
struct Page {
    watched: bool,
    is_memory: bool,
    has_code: bool,
}

/// The bytes of an access, in ascending order.
#[derive(Debug, Clone)]
struct Bytes {
    va: u64,
    next: u8,
    size: u8,
    big: bool,
}

impl Iterator for Bytes {
    type Item = (u64, u32);

    fn next(&mut self) -> Option<(u64, u32)> {
        if self.next == self.size {
            return None;
        }
        let i = self.next;
        self.next += 1;
        let place = if self.big { self.size - 1 - i } else { i };
        // Addresses of 32-bit guests wrap there.
        let va = (self.va & !0xffff_ffff) | (self.va.wrapping_add(u64::from(i)) & 0xffff_ffff);
        Some((va, u32::from(place) * 8))
    }
}

/// The low `size` bytes.
fn cut(value: u64, size: u8) -> u64 {
    value & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))))
}
