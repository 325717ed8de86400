//! Register banks: a device's registers as its datasheet lists them.
//!
//! A bank is a table of [`Register`]s — name, offset, reset value, which bits a guest can write, which it clears by
//! writing 1 — with hooks for those that do something. The values are part of the device's state, so hooks see them
//! under the device's lock; what a hook wants to happen outside it records in [`Effects`]. A bank knows nothing of
//! what the registers mean. What must always hold: a guest changes only the bits that are declared writable, and an
//! access that no declared register matches reads 0 and changes nothing. Bit 0 is the least significant.
//!
//! A device has one file of values even where its registers are in several regions: the tables stand one behind the
//! other in it ([`Registers::of`], [`Bank::starting_at`]).

use std::fmt;
use std::sync::Arc;

use flatview::{Access, AccessRules, MemTxError, MmioOps};
use serde::{Deserialize, Serialize};

use crate::cell::{DeviceCell, Effects};
use crate::log::{Log, LogMask};

/// A state that holds the values of a bank.
pub trait Banked: Send + Sized + 'static {
    /// The values, in the order of the bank's table.
    fn registers(&self) -> &Registers;
    /// The values, to change.
    fn registers_mut(&mut self) -> &mut Registers;
    /// Brings what follows from the time up to now; called before each read and write. Most devices have nothing such.
    fn catch_up(&mut self, effects: &mut Effects) {
        let _ = effects;
    }
}

/// A write as a hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The register's value before.
    pub old: u64,
    /// Its value now, after masks.
    pub new: u64,
    /// What the guest wrote.
    pub value: u64,
}

/// What a register's declaration says: the facts that a data sheet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterInfo {
    /// Its name, as the data sheet has it; of a row of equal registers, the first one's without its number.
    pub name: &'static str,
    /// Offset in bytes from the start of its region.
    pub offset: u64,
    /// How many equal registers stand one behind the other; 1 for most.
    pub count: u64,
    /// The value at reset.
    pub reset: u64,
    /// The bits that take what is written.
    pub writable: u64,
    /// The bits that writing 1 clears.
    pub clears: u64,
}

type Shown<S> = fn(&S, u64) -> u64;
type ReadHook<S> = fn(&mut S, &mut Effects, u64) -> u64;
type WriteHook<S> = fn(&mut S, &mut Effects, Written);

/// One register of a bank.
pub struct Register<S> {
    name: &'static str,
    offset: u64,
    reset: u64,
    writable: u64,
    clears: u64,
    locked: Option<fn(&S) -> bool>,
    shown: Option<Shown<S>>,
    on_read: Option<ReadHook<S>>,
    on_write: Option<WriteHook<S>>,
}

impl<S> fmt::Debug for Register<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Register({} at {:#x})", self.name, self.offset)
    }
}

impl<S> Register<S> {
    /// A read-only register that resets to 0, at an offset in bytes from the bank's start.
    pub const fn new(name: &'static str, offset: u64) -> Register<S> {
        Register {
            name,
            offset,
            reset: 0,
            writable: 0,
            clears: 0,
            locked: None,
            shown: None,
            on_read: None,
            on_write: None,
        }
    }

    /// The value at reset.
    pub const fn reset(mut self, value: u64) -> Register<S> {
        self.reset = value;
        self
    }

    /// The bits that take what is written.
    pub const fn writable(mut self, mask: u64) -> Register<S> {
        self.writable = mask;
        self
    }

    /// The bits that writing 1 clears.
    pub const fn write_1_clears(mut self, mask: u64) -> Register<S> {
        self.clears = mask;
        self
    }

    /// While this says yes, writes change nothing.
    pub const fn locked_while(mut self, locked: fn(&S) -> bool) -> Register<S> {
        self.locked = Some(locked);
        self
    }

    /// What a read gives, made of the state and the stored value. Without side effects, so monitors may look as well; they
    /// do without [`Banked::catch_up`], so this has to account for the time by itself.
    pub const fn shown(mut self, shown: fn(&S, u64) -> u64) -> Register<S> {
        self.shown = Some(shown);
        self
    }

    /// Runs on each read, with the value that is shown; what it returns is read.
    pub const fn on_read(mut self, hook: ReadHook<S>) -> Register<S> {
        self.on_read = Some(hook);
        self
    }

    /// Runs after each write that was not locked out.
    pub const fn on_write(mut self, hook: WriteHook<S>) -> Register<S> {
        self.on_write = Some(hook);
        self
    }

    /// The register's name, as the datasheet has it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its offset in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What its declaration says.
    pub fn info(&self) -> RegisterInfo {
        let Register { name, offset, reset, writable, clears, .. } = *self;
        RegisterInfo { name, offset, count: 1, reset, writable, clears }
    }
}

/// The values of a bank's registers, in the order of its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers(Vec<u64>);

impl Registers {
    /// All registers at their reset values.
    pub fn at_reset<S>(table: &[Register<S>]) -> Registers {
        Registers::of(&[table])
    }

    /// All registers of several tables at their reset values, one table behind the other.
    pub fn of<S>(tables: &[&[Register<S>]]) -> Registers {
        Registers(tables.iter().flat_map(|table| table.iter()).map(|register| register.reset).collect())
    }

    /// The value of the register at this place of the table; 0 beyond its end.
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Sets a register, whatever its masks say: this is the device itself, not the guest.
    pub fn set(&mut self, index: usize, value: u64) {
        if let Some(slot) = self.0.get_mut(index) {
            *slot = value;
        }
    }
}

/// A bank as a region's operations: registers of one width, accessed whole and aligned.
pub struct Bank<S: Banked> {
    cell: Arc<DeviceCell<S>>,
    table: &'static [Register<S>],
    /// The place of the table's first register among the device's values.
    first: usize,
    rules: AccessRules,
    device: &'static str,
    log: Log,
}

impl<S: Banked> fmt::Debug for Bank<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bank")
            .field("device", &self.device)
            .field("registers", &self.table)
            .finish_non_exhaustive()
    }
}

impl<S: Banked> Bank<S> {
    /// A bank of this device; `rules` say how wide the registers are and in which byte order.
    pub fn new(
        device: &'static str,
        cell: &Arc<DeviceCell<S>>,
        table: &'static [Register<S>],
        rules: AccessRules,
        log: &Log,
    ) -> Bank<S> {
        Bank { cell: cell.clone(), table, first: 0, rules, device, log: log.clone() }
    }

    /// With the table's values beginning at this index of the device's [`Registers`].
    pub fn starting_at(mut self, first: usize) -> Bank<S> {
        self.first = first;
        self
    }

    fn find(&self, offset: u64) -> Option<(usize, &'static Register<S>)> {
        let (index, register) =
            self.table.iter().enumerate().find(|(_, register)| register.offset == offset)?;
        Some((self.first + index, register))
    }
}

impl<S: Banked> MmioOps for Bank<S> {
    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let Some((index, register)) = self.find(access.offset()) else {
            self.log.line(
                LogMask::GUEST_ERRORS,
                format_args!(
                    "{}: read of offset {:#x}, where there is no register",
                    self.device,
                    access.offset()
                ),
            );
            return Ok(0);
        };
        Ok(self.cell.with(|state, effects| {
            state.catch_up(effects);
            let stored = state.registers().get(index);
            let shown = register.shown.map_or(stored, |shown| shown(state, stored));
            register.on_read.map_or(shown, |hook| hook(state, effects, shown))
        }))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let Some((index, register)) = self.find(access.offset()) else {
            self.log.line(
                LogMask::GUEST_ERRORS,
                format_args!(
                    "{}: write of {value:#x} to offset {:#x}, where there is no register",
                    self.device,
                    access.offset()
                ),
            );
            return Ok(());
        };
        let locked = self.cell.with(|state, effects| {
            state.catch_up(effects);
            if register.locked.is_some_and(|locked| locked(state)) {
                return true;
            }
            let old = state.registers().get(index);
            let new = (old & !register.writable | value & register.writable) & !(value & register.clears);
            state.registers_mut().set(index, new);
            if let Some(hook) = register.on_write {
                hook(state, effects, Written { old, new, value });
            }
            false
        });
        if locked {
            let (device, name) = (self.device, register.name);
            self.log.line(
                LogMask::GUEST_ERRORS,
                format_args!("{device}: write of {value:#x} to {name}, which is locked"),
            );
        }
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        let (index, register) = self.find(offset)?;
        // A hook may have side effects, so what a read would give is not known.
        register.on_read.is_none().then(|| {
            self.cell.peek(|state| {
                let stored = state.registers().get(index);
                register.shown.map_or(stored, |shown| shown(state, stored))
            })
        })
    }
}
