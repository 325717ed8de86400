//! A SCSI bus as its host adapter sees it: units by target and number, and commands under way.
//!
//! [`ScsiBus::begin`] takes a command descriptor block and gives a [`Task`]: data for the initiator in pieces, or so many
//! bytes that are wanted of it, and a status in the end. It models no wires: phases, messages and disconnections are the adapter's
//! matter. What must always hold: no task holds more than [`CHUNK`] bytes and what a command's parameters are long, however much is
//! transferred; a block device is touched only in [`Task::fetch`], [`Task::deliver`] and [`Task::finish`], which
//! take as long as the host's disk does. (SAM-3 and SPC-3; QEMU: `SCSIBus`.)

use std::fmt;
use std::sync::Arc;

use super::sense::Sense;

/// Bytes of a command descriptor block, the unused ones 0.
pub type Cdb = [u8; 16];

/// Status GOOD.
pub const GOOD: u8 = 0;
/// Status CHECK CONDITION.
pub const CHECK_CONDITION: u8 = 2;
/// Bytes that are read from or written to a medium in one go.
pub const CHUNK: usize = 0x2_0000;

const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;

/// What a unit does with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is transferred.
    Done,
    /// These bytes go to the initiator.
    Answer(Vec<u8>),
    /// So many bytes of parameters come from the initiator, for [`Unit::parameters`].
    Parameters(usize),
    /// These bytes of the medium go to the initiator.
    Read {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// These bytes of the medium come from the initiator.
    Write {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Whether they are on the host's disk before the status is told.
        through: bool,
    },
    /// What was written gets to the host's disk.
    Flush,
}

/// A logical unit.
pub trait Unit: fmt::Debug + Send + Sync {
    /// What to do with a command. The medium is not touched.
    ///
    /// # Errors
    /// Why it is refused.
    fn accept(&self, cdb: &Cdb) -> Result<Plan, Sense>;

    /// Takes the parameters of a command that asked for them.
    ///
    /// # Errors
    /// What is wrong with them.
    fn parameters(&self, cdb: &Cdb, bytes: &[u8]) -> Result<(), Sense>;

    /// Reads from the medium.
    ///
    /// # Errors
    /// That there is none, or it cannot be read.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Sense>;

    /// Writes to the medium.
    ///
    /// # Errors
    /// That there is none, or it cannot be written.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Sense>;

    /// Gets what was written to the host's disk.
    ///
    /// # Errors
    /// The same.
    fn flush(&self) -> Result<(), Sense>;

    /// Keeps what REQUEST SENSE will tell.
    fn set_sense(&self, sense: Sense);

    /// The bus, or the machine, was reset.
    fn reset(&self);
}

/// Which way a command's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// No data, or no more.
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// A command under way.
#[derive(Debug)]
pub struct Task {
    /// None where no unit answers and the bus does.
    unit: Option<Arc<dyn Unit>>,
    cdb: Cdb,
    plan: Plan,
    /// Bytes done of a plan that reads or writes the medium.
    done: u64,
    /// Bytes from the initiator that wait for a whole chunk, or for the last one.
    held: Vec<u8>,
    status: Option<u8>,
}

impl Task {
    fn new(unit: Option<Arc<dyn Unit>>, cdb: Cdb, accepted: Result<Plan, Sense>) -> Task {
        let mut task = Task { unit, cdb, plan: Plan::Done, done: 0, held: Vec::new(), status: None };
        match accepted {
            Ok(plan) => task.plan = plan,
            Err(sense) => task.fail(sense),
        }
        if task.direction() == Direction::None && task.plan == Plan::Done {
            task.status.get_or_insert(GOOD);
        }
        task
    }

    fn fail(&mut self, sense: Sense) {
        if let Some(unit) = &self.unit {
            unit.set_sense(sense);
        }
        self.status = Some(CHECK_CONDITION);
        self.held.clear();
    }

    /// Bytes that are still to be transferred.
    pub fn left(&self) -> u64 {
        if self.status.is_some() {
            return 0;
        }
        match &self.plan {
            Plan::Done | Plan::Flush => 0,
            Plan::Answer(data) => data.len() as u64,
            Plan::Parameters(length) => (*length as u64).saturating_sub(self.held.len() as u64),
            Plan::Read { length, .. } => length.saturating_sub(self.done),
            Plan::Write { length, .. } => length.saturating_sub(self.done + self.held.len() as u64),
        }
    }

    /// Which way data goes now.
    pub fn direction(&self) -> Direction {
        match &self.plan {
            _ if self.left() == 0 => Direction::None,
            Plan::Done | Plan::Flush => Direction::None,
            Plan::Answer(_) | Plan::Read { .. } => Direction::In,
            Plan::Parameters(_) | Plan::Write { .. } => Direction::Out,
        }
    }

    /// Whether the first data comes from a medium, for which a target lets go of the bus.
    pub fn is_slow(&self) -> bool {
        matches!(self.plan, Plan::Read { .. }) && self.left() > 0
    }

    /// The next bytes for the initiator, at most [`CHUNK`] of a medium; none if that was all, or an error ended it.
    pub fn fetch(&mut self) -> Vec<u8> {
        let left = self.left();
        match &mut self.plan {
            Plan::Answer(data) => std::mem::take(data),
            Plan::Read { offset, .. } if left > 0 => {
                let from = offset.saturating_add(self.done);
                let mut bytes = vec![0; left.min(CHUNK as u64) as usize];
                let result =
                    self.unit.as_ref().map_or(Err(Sense::NO_UNIT), |unit| unit.read(from, &mut bytes));
                match result {
                    Ok(()) => {
                        self.done += bytes.len() as u64;
                        bytes
                    }
                    Err(sense) => {
                        self.fail(sense);
                        Vec::new()
                    }
                }
            }
            _ => Vec::new(),
        }
    }

    /// Takes bytes from the initiator; more than [`Self::left`] are not looked at.
    pub fn deliver(&mut self, bytes: &[u8]) {
        let wanted = usize::try_from(self.left()).unwrap_or(usize::MAX).min(bytes.len());
        self.held.extend_from_slice(bytes.get(..wanted).unwrap_or(bytes));
        if let Plan::Write { offset, .. } = self.plan
            && (self.held.len() >= CHUNK || self.left() == 0)
        {
            let held = std::mem::take(&mut self.held);
            let to = offset.saturating_add(self.done);
            match self.unit.as_ref().map_or(Err(Sense::NO_UNIT), |unit| unit.write(to, &held)) {
                Ok(()) => self.done += held.len() as u64,
                Err(sense) => self.fail(sense),
            }
        }
    }

    /// Ends a task without data left, and gives its status.
    pub fn finish(&mut self) -> u8 {
        if let Some(status) = self.status {
            return status;
        }
        let result = match (&self.plan, &self.unit) {
            (Plan::Parameters(_), Some(unit)) => unit.parameters(&self.cdb, &self.held),
            (Plan::Write { through: true, .. } | Plan::Flush, Some(unit)) => unit.flush(),
            _ => Ok(()),
        };
        match result {
            Ok(()) => self.status = Some(GOOD),
            Err(sense) => self.fail(sense),
        }
        self.status.unwrap_or(GOOD)
    }
}

/// Units by target and number.
#[derive(Debug, Default)]
pub struct ScsiBus {
    units: Vec<(u8, u8, Arc<dyn Unit>)>,
}

impl ScsiBus {
    /// A bus with these units: target, number, unit.
    pub fn new(units: Vec<(u8, u8, Arc<dyn Unit>)>) -> ScsiBus {
        ScsiBus { units }
    }

    /// Whether somebody answers a selection of this target.
    pub fn has(&self, target: u8) -> bool {
        self.units.iter().any(|unit| unit.0 == target)
    }

    /// Begins a command. `bytes` beyond the 16th are not looked at, and missing ones are 0.
    pub fn begin(&self, target: u8, lun: u8, bytes: &[u8]) -> Task {
        let mut cdb = [0; 16];
        for (slot, byte) in cdb.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        let unit = self.units.iter().find(|unit| (unit.0, unit.1) == (target, lun));
        match unit {
            Some((_, _, unit)) => {
                let accepted = unit.accept(&cdb);
                Task::new(Some(unit.clone()), cdb, accepted)
            }
            None => Task::new(None, cdb, absent(&cdb)),
        }
    }

    /// Resets every unit.
    pub fn reset(&self) {
        self.units.iter().for_each(|unit| unit.2.reset());
    }

    /// Resets the units of a target.
    pub fn reset_target(&self, target: u8) {
        self.units.iter().filter(|unit| unit.0 == target).for_each(|unit| unit.2.reset());
    }
}

/// What a target says for a unit that it has not (SPC-3, §5.2 and §6.4.1): who it is not, and why.
fn absent(cdb: &Cdb) -> Result<Plan, Sense> {
    let [opcode, flags, page, high, low, ..] = *cdb;
    let mut data = match opcode {
        INQUIRY if flags & 1 != 0 && page == 0 => vec![0x7f, 0, 0, 0],
        INQUIRY if flags & 1 == 0 && page == 0 => {
            let mut data = vec![0; 36];
            if let Some(slot) = data.first_mut() {
                *slot = 0x7f;
            }
            data
        }
        REQUEST_SENSE if flags & 1 != 0 => Sense::NO_UNIT.descriptor(),
        REQUEST_SENSE => Sense::NO_UNIT.fixed(),
        _ => return Err(Sense::NO_UNIT),
    };
    let allocation = if opcode == INQUIRY { u16::from_be_bytes([high, low]) } else { low.into() };
    data.truncate(allocation.into());
    Ok(if data.is_empty() { Plan::Done } else { Plan::Answer(data) })
}
