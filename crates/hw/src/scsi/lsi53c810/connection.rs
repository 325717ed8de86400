//! A target's side of the bus: phases, messages, and the command that it works on.
//!
//! A [`Connection`] goes from selection through messages, command, data and status until the target lets go. It changes
//! phase as a target would; the chip asks what phase it is and moves bytes. What must always hold: the phase follows from
//! the messages that wait and from the task, so that no order of block moves leads to one that the target would not show. (SCSI-2, chapter 6.)

use std::collections::VecDeque;

use crate::scsi::bus::{Direction, Task};

/// A phase of the bus, as its lines MSG, C/D and I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    DataOut = 0,
    DataIn = 1,
    Command = 2,
    Status = 3,
    MessageOut = 6,
    MessageIn = 7,
}

/// Messages (SCSI-2, §6.6).
pub(super) mod message {
    pub const COMMAND_COMPLETE: u8 = 0x00;
    pub const EXTENDED: u8 = 0x01;
    pub const SAVE_DATA_POINTER: u8 = 0x02;
    pub const DISCONNECT: u8 = 0x04;
    pub const ABORT: u8 = 0x06;
    pub const REJECT: u8 = 0x07;
    pub const NO_OPERATION: u8 = 0x08;
    pub const BUS_DEVICE_RESET: u8 = 0x0c;
    pub const ABORT_TAG: u8 = 0x0d;
    pub const CLEAR_QUEUE: u8 = 0x0e;
    pub const SIMPLE_QUEUE_TAG: u8 = 0x20;
    pub const ORDERED_QUEUE_TAG: u8 = 0x22;
    pub const IDENTIFY: u8 = 0x80;
}

/// What a target does once its messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Lets go of the bus, and the command is over.
    Free,
    /// Lets go of the bus until there is data.
    Disconnect,
    /// Goes on with its command, or asks for one.
    Resume,
}

/// A target with which the chip speaks.
#[derive(Debug)]
pub(super) struct Connection {
    /// Which connection it is.
    pub number: u64,
    pub target: u8,
    /// The logical unit, if a message named it.
    pub lun: Option<u8>,
    /// The kind of queue tag and the tag.
    pub tag: Option<(u8, u8)>,
    pub phase: Phase,
    /// For the initiator.
    pub messages: VecDeque<u8>,
    pub after: After,
    /// The command; whoever moves its data has it meanwhile.
    pub task: Option<Task>,
    /// Data for the initiator that was fetched already.
    pub data: VecDeque<u8>,
}

/// A target that let go of the bus to come back.
#[derive(Debug)]
pub(super) struct Disconnected {
    pub connection: Connection,
    /// Whether it has data now.
    pub ready: bool,
}

/// What the initiator's messages ask for beyond what is the connection's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Nothing.
    None,
    /// The command is forgotten, or all of them to this target, and the bus is free.
    Abort {
        /// Those that let go of the bus too.
        all: bool,
    },
    /// The target is reset, and the bus is free.
    Reset,
}

impl Connection {
    /// A target that was selected; with ATN it wants to hear messages first.
    pub(super) fn new(number: u64, target: u8, attention: bool) -> Connection {
        Connection {
            number,
            target,
            lun: None,
            tag: None,
            phase: if attention { Phase::MessageOut } else { Phase::Command },
            messages: VecDeque::new(),
            after: After::Resume,
            task: None,
            data: VecDeque::new(),
        }
    }

    fn tell(&mut self, messages: &[u8], after: After) {
        self.messages.extend(messages);
        self.after = after;
        self.phase = Phase::MessageIn;
    }

    /// The phase in which the command goes on.
    pub(super) fn resume(&mut self) {
        self.phase = match &self.task {
            None => Phase::Command,
            Some(_) if !self.data.is_empty() => Phase::DataIn,
            Some(task) => match task.direction() {
                Direction::In => Phase::DataIn,
                Direction::Out => Phase::DataOut,
                Direction::None => Phase::Status,
            },
        };
    }

    /// Takes the initiator's messages; how many bytes it looked at, and what they ask for.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> (usize, Request) {
        let mut at = 0;
        let mut next = || {
            let byte = bytes.get(at).copied();
            at += usize::from(byte.is_some());
            byte
        };
        while let Some(byte) = next() {
            match byte {
                message::IDENTIFY.. => self.lun = Some(byte & 7),
                message::NO_OPERATION => {}
                message::SIMPLE_QUEUE_TAG..=message::ORDERED_QUEUE_TAG => match next() {
                    Some(tag) => self.tag = Some((byte, tag)),
                    None => {
                        self.tell(&[message::REJECT], After::Resume);
                        return (at, Request::None);
                    }
                },
                message::ABORT | message::CLEAR_QUEUE => return (at, Request::Abort { all: true }),
                message::ABORT_TAG => return (at, Request::Abort { all: false }),
                message::BUS_DEVICE_RESET => return (at, Request::Reset),
                other => {
                    // Transfers are asynchronous and narrow: who asks for more is told no.
                    if other == message::EXTENDED {
                        let length = match next() {
                            Some(0) => 256,
                            length => length.unwrap_or(0).into(),
                        };
                        for _ in 0..length {
                            next();
                        }
                    }
                    self.tell(&[message::REJECT], After::Resume);
                    return (at, Request::None);
                }
            }
        }
        self.resume();
        (at, Request::None)
    }

    /// Takes a command that was begun.
    pub(super) fn begin(&mut self, task: Task) {
        let slow = task.is_slow();
        self.task = Some(task);
        if slow {
            self.tell(&[message::SAVE_DATA_POINTER, message::DISCONNECT], After::Disconnect);
        } else {
            self.resume();
        }
    }

    /// Comes back after a disconnection, and says who it is.
    pub(super) fn back(mut self) -> Connection {
        let lun = self.lun.unwrap_or(0);
        let tag = self.tag.map(|(_, tag)| [message::SIMPLE_QUEUE_TAG, tag]);
        self.tell(&[message::IDENTIFY | lun], After::Resume);
        self.messages.extend(tag.into_iter().flatten());
        self
    }

    /// The status was told.
    pub(super) fn complete(&mut self) {
        self.tell(&[message::COMMAND_COMPLETE], After::Free);
    }
}
