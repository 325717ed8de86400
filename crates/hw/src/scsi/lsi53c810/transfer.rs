//! Block moves: bytes between memory and the target, in the phase that the target shows.
//!
//! Memory, and the medium of a drive, are accessed without the chip's lock; meanwhile the task is out of the connection, and
//! goes back only into the same one.

use std::sync::Arc;

use flatview::AddressSpace;

use super::Lsi53c810;
use super::connection::{After, Disconnected, Phase, Request};
use super::registers::{SIST0_PHASE_MISMATCH, SIST0_UNEXPECTED_DISCONNECT, SOCL_ATN, Script, State, reg};
use crate::scsi::bus::Task;

/// Bytes of messages that are looked at in one move.
const MESSAGES: u32 = 256;
/// Bytes of a command that are looked at.
const COMMAND: u32 = 16;
/// Bytes that are copied in one go.
const PIECE: u32 = 0x1000;

/// A block move on its way.
struct Move {
    address: u32,
    left: u32,
}

impl Lsi53c810 {
    /// Moves `count` bytes from or to `address` in a phase; whether memory took all accesses.
    pub(super) fn transfer(
        self: &Arc<Self>,
        space: &AddressSpace,
        phase: u8,
        count: u32,
        address: u32,
    ) -> bool {
        let (shown, number) = self.change(|state| {
            state.put_count(count);
            state.put_long(reg::DNAD, address);
            if count != 0 && state.phase() != phase {
                state.stop_scsi(SIST0_PHASE_MISMATCH);
            }
            let number = state.connection.as_ref().map(|connection| connection.number);
            ((state.phase() == phase).then_some(phase), number)
        });
        let (Some(shown), 1..) = (shown, count) else { return true };
        let Some(number) = number else {
            // Nobody drives the bus: the first request never comes.
            self.change(|state| state.script = Script::Stopped);
            return true;
        };
        let mut rest = Move { address, left: count };
        let taken = match shown {
            p if p == Phase::MessageOut as u8 => self.hear(space, number, &mut rest),
            p if p == Phase::Command as u8 => self.command(space, number, &mut rest),
            p if p == Phase::DataOut as u8 => self.data_out(space, number, &mut rest),
            p if p == Phase::DataIn as u8 => self.data_in(space, number, &mut rest),
            p if p == Phase::Status as u8 => self.status(space, number, &mut rest),
            _ => self.tell(space, number, &mut rest),
        };
        let disconnects = self.change(|state| {
            state.put_count(rest.left);
            state.put_long(reg::DNAD, rest.address);
            if taken && rest.left != 0 {
                let free = state.connection.is_none();
                state.stop_scsi(if free { SIST0_UNEXPECTED_DISCONNECT } else { SIST0_PHASE_MISMATCH });
            }
            state.disconnected.iter().any(|one| !one.ready)
        });
        if disconnects {
            self.arm_medium();
        }
        taken
    }

    /// Whether the connection is still that one; what to do with it.
    fn with<R>(self: &Arc<Self>, number: u64, f: impl FnOnce(&mut State, u64) -> R) -> Option<R> {
        self.change(|state| {
            let same = state.connection.as_ref().is_some_and(|connection| connection.number == number);
            same.then(|| f(state, number))
        })
    }

    fn hear(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        let mut bytes = vec![0; rest.left.min(MESSAGES) as usize];
        if space.read(rest.address.into(), &mut bytes).is_err() {
            return false;
        }
        let heard = self.with(number, |state, _| {
            // The last byte of a message goes without ATN.
            state.put(reg::SOCL, state.byte(reg::SOCL) & !SOCL_ATN);
            let connection = state.connection.as_mut()?;
            let (target, (length, request)) = (connection.target, connection.hear(&bytes));
            match request {
                Request::None => {}
                Request::Reset => {
                    state.connection = None;
                    state.disconnected.retain(|one| one.connection.target != target);
                }
                Request::Abort { all } => {
                    let gone = state.connection.take();
                    let tag = gone.and_then(|connection| connection.tag);
                    state
                        .disconnected
                        .retain(|one| one.connection.target != target || !(all || one.connection.tag == tag));
                }
            }
            Some((length as u32, target, request))
        });
        if let Some((length, target, request)) = heard.flatten() {
            if request == Request::Reset {
                self.bus.reset_target(target);
            }
            rest.address = rest.address.wrapping_add(length);
            rest.left -= length.min(rest.left);
            // The initiator need not know that the rest of an aborting message is nothing.
            if request != Request::None {
                rest.left = 0;
            }
        }
        true
    }

    fn command(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        let mut bytes = vec![0; rest.left.min(COMMAND) as usize];
        if space.read(rest.address.into(), &mut bytes).is_err() {
            return false;
        }
        let who = self.with(number, |state, _| {
            state.connection.as_ref().map(|connection| (connection.target, connection.lun))
        });
        let Some((target, lun)) = who.flatten() else { return true };
        // Without a message the unit stands in the command, as in the first SCSI.
        let lun = lun.unwrap_or_else(|| bytes.get(1).map_or(0, |byte| byte >> 5));
        let task = self.bus.begin(target, lun, &bytes);
        self.with(number, |state, _| {
            if let Some(connection) = &mut state.connection {
                connection.lun = Some(lun);
                connection.begin(task);
            }
        });
        rest.address = rest.address.wrapping_add(rest.left);
        rest.left = 0;
        true
    }

    /// Takes the task out of the connection.
    fn take_task(self: &Arc<Self>, number: u64) -> Option<Task> {
        self.with(number, |state, _| state.connection.as_mut()?.task.take()).flatten()
    }

    /// Puts the task back, with what it fetched.
    fn put_task(self: &Arc<Self>, number: u64, task: Task, data: Vec<u8>) {
        self.with(number, |state, _| {
            if let Some(connection) = &mut state.connection {
                connection.task = Some(task);
                connection.data.extend(data);
                connection.resume();
            }
        });
    }

    fn data_in(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        while rest.left != 0 {
            let piece = self.with(number, |state, _| {
                let data = &mut state.connection.as_mut()?.data;
                let length = data.len().min(rest.left.min(PIECE) as usize);
                let piece: Vec<u8> = data.drain(..length).collect();
                if let Some(first) = piece.first() {
                    state.put(reg::SFBR, *first);
                }
                Some(piece)
            });
            let Some(piece) = piece.flatten() else { return true };
            if piece.is_empty() {
                let Some(mut task) = self.take_task(number) else { return true };
                let data = task.fetch();
                let over = data.is_empty();
                self.put_task(number, task, data);
                if over {
                    return true;
                }
                continue;
            }
            if space.write(rest.address.into(), &piece).is_err() {
                return false;
            }
            rest.address = rest.address.wrapping_add(piece.len() as u32);
            rest.left -= piece.len() as u32;
        }
        // The target goes on as soon as its last byte is taken.
        self.with(number, |state, _| {
            if let Some(connection) = &mut state.connection {
                connection.resume();
            }
        });
        true
    }

    fn data_out(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        let Some(mut task) = self.take_task(number) else { return true };
        let mut buffer = [0; PIECE as usize];
        let mut taken = true;
        while rest.left != 0 && task.left() != 0 {
            let length = task.left().min(rest.left.min(PIECE).into()) as u32;
            let Some(piece) = buffer.get_mut(..length as usize) else { break };
            if space.read(rest.address.into(), piece).is_err() {
                taken = false;
                break;
            }
            task.deliver(piece);
            rest.address = rest.address.wrapping_add(length);
            rest.left -= length;
        }
        self.put_task(number, task, Vec::new());
        taken
    }

    fn status(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        let Some(mut task) = self.take_task(number) else { return true };
        let status = task.finish();
        self.put_task(number, task, Vec::new());
        let done = space.write(rest.address.into(), &[status]).is_ok();
        self.with(number, |state, _| {
            state.put(reg::SFBR, status);
            if let Some(connection) = &mut state.connection {
                connection.complete();
            }
        });
        rest.address = rest.address.wrapping_add(1);
        rest.left -= 1;
        done
    }

    fn tell(self: &Arc<Self>, space: &AddressSpace, number: u64, rest: &mut Move) -> bool {
        let bytes = self.with(number, |state, _| {
            let connection = state.connection.as_mut()?;
            let length = connection.messages.len().min(rest.left as usize);
            let bytes: Vec<u8> = connection.messages.drain(..length).collect();
            let over = connection.messages.is_empty();
            match connection.after {
                _ if !over => {}
                After::Resume => connection.resume(),
                After::Free => state.connection = None,
                After::Disconnect => {
                    let gone =
                        state.connection.take().map(|connection| Disconnected { connection, ready: false });
                    state.disconnected.extend(gone);
                }
            }
            if let Some(first) = bytes.first() {
                state.put(reg::SFBR, *first);
            }
            Some(bytes)
        });
        let Some(bytes) = bytes.flatten() else { return true };
        if space.write(rest.address.into(), &bytes).is_err() {
            return false;
        }
        rest.address = rest.address.wrapping_add(bytes.len() as u32);
        rest.left -= bytes.len() as u32;
        true
    }

    /// Reads what the targets that let go of the bus wait for, and lets one of them come back.
    pub(super) fn media_ready(self: &Arc<Self>) {
        loop {
            let taken = self.change(|state| {
                let waiting =
                    state.disconnected.iter_mut().find(|one| !one.ready && one.connection.task.is_some());
                waiting.and_then(|one| Some((one.connection.number, one.connection.task.take()?)))
            });
            let Some((number, mut task)) = taken else { return };
            let data = task.fetch();
            self.change(|state| {
                if let Some(one) = state.disconnected.iter_mut().find(|one| one.connection.number == number) {
                    one.connection.task = Some(task);
                    one.connection.data.extend(data);
                    one.ready = true;
                }
            });
        }
    }
}
