//! SCRIPTS: what an instruction does to the chip, and what it wants of memory and of the bus once the lock is let go.
//! (Data manual, chapter 5.)

use flatview_device::{Log, LogMask};

use super::connection::Connection;
use super::connection::Phase;
use super::registers::{
    Asked, DSTAT_ILLEGAL, DSTAT_SCRIPT, ISTAT_ON_THE_FLY, ISTAT_SIGNAL, SIST1_SELECTION_TIMEOUT, SOCL_ATN,
    SSTAT0_WON_ARBITRATION, Script, State, reg,
};

/// What an instruction wants of memory, once the lock is let go.
pub(super) enum Then {
    /// The next instruction, or what the state says.
    Next,
    /// Bytes from one place to another.
    Move { from: u32, to: u32, count: u32 },
    /// Registers from memory.
    Load { register: usize, from: u32, count: usize },
    /// Memory from registers.
    Store { register: usize, to: u32, count: usize },
    /// A selection, with the entry of the table that says of whom.
    Select { table: Option<u32>, target: u8, attention: bool, other: u32 },
    /// Bytes between memory and the bus.
    Block { phase: u8, count: u32, place: Place },
}

/// Where a block move's address stands.
pub(super) enum Place {
    /// In the instruction.
    Direct(u32),
    /// In memory.
    Indirect(u32),
    /// In memory, behind the count.
    Table(u32),
}

/// An offset of 24 bits, with its sign.
pub(super) fn signed24(value: u32) -> u32 {
    ((value << 8) as i32 >> 8) as u32
}

/// Carries out an instruction.
pub(super) fn execute(state: &mut State, op: u32, arg: u32, to: u32, log: &Log) -> (Then, Asked) {
    let dcmd = op >> 24;
    let relative = |state: &State, offset: u32| state.long(reg::DSP).wrapping_add(signed24(offset));
    let then = match dcmd >> 6 {
        0 => {
            let place = match dcmd >> 4 & 3 {
                0 => Place::Direct(arg),
                2 => Place::Indirect(arg),
                _ => Place::Table(state.long(reg::DSA).wrapping_add(signed24(arg))),
            };
            if state.connection.is_none() {
                log.line(
                    LogMask::GUEST_ERRORS,
                    format_args!("lsi53c810: block move {op:#010x} without a connection"),
                );
            }
            Then::Block { phase: (dcmd & 7) as u8, count: op & 0xff_ffff, place }
        }
        1 if dcmd >> 3 & 7 < 5 => {
            let other = if dcmd & 4 != 0 { relative(state, arg) } else { arg };
            match dcmd >> 3 & 7 {
                0 => {
                    let table = state.long(reg::DSA).wrapping_add(signed24(op));
                    Then::Select {
                        table: (dcmd & 2 != 0).then_some(table),
                        target: (op >> 16) as u8,
                        attention: dcmd & 1 != 0,
                        other,
                    }
                }
                1 => {
                    // The target is not asked whether it has finished.
                    state.connection = None;
                    Then::Next
                }
                2 => {
                    wait_for_reselection(state, other);
                    Then::Next
                }
                set => {
                    if op & 1 << 10 != 0 {
                        state.carry = set == 3;
                    }
                    if op & 1 << 3 != 0 {
                        attention(state, set == 3);
                    }
                    Then::Next
                }
            }
        }
        1 => return (Then::Next, compute(state, op)),
        2 => {
            control(state, op, arg);
            Then::Next
        }
        _ if dcmd & 0x20 == 0 => {
            state.put_long(reg::TEMP, to);
            Then::Move { from: arg, to, count: op & 0xff_ffff }
        }
        _ => {
            let address =
                if dcmd & 0x10 != 0 { state.long(reg::DSA).wrapping_add(signed24(arg)) } else { arg };
            let (register, count) = ((op >> 16 & 0x7f) as usize, (op & 7) as usize);
            match dcmd & 1 {
                _ if count == 0 || count > 4 => {
                    state.stop(DSTAT_ILLEGAL);
                    Then::Next
                }
                0 => Then::Store { register, to: address, count },
                _ => Then::Load { register, from: address, count },
            }
        }
    };
    (then, Asked::NOTHING)
}

/// WAIT RESELECT: goes on at once if the signal is up or somebody wants to come back.
fn wait_for_reselection(state: &mut State, other: u32) {
    if state.byte(reg::ISTAT) & ISTAT_SIGNAL != 0 {
        state.put_long(reg::DSP, other);
    } else if state.connection.is_none() && !state.let_back() {
        state.script = Script::Reselect(other);
    }
}

/// SET ATN and CLEAR ATN: a target that has the bus hears that it is to listen.
fn attention(state: &mut State, on: bool) {
    let others = state.byte(reg::SOCL) & !SOCL_ATN;
    state.put(reg::SOCL, others | if on { SOCL_ATN } else { 0 });
    if let (true, Some(connection)) = (on, &mut state.connection) {
        connection.phase = Phase::MessageOut;
    }
}

/// A selection: of somebody who is there, of nobody, or while somebody else has the bus.
pub(super) fn select(state: &mut State, target: u8, attention: bool, present: bool, other: u32) {
    state.put(reg::SDID, target);
    if state.connection.is_some() {
        // Lost to a reselection: SCRIPTS go on elsewhere.
        state.put_long(reg::DSP, other);
    } else if present {
        state.connections += 1;
        state.connection = Some(Connection::new(state.connections, target, attention));
        state.put(reg::SSTAT0, state.byte(reg::SSTAT0) | SSTAT0_WON_ARBITRATION);
    } else {
        state.stop(0);
        state.put(reg::SIST1, state.byte(reg::SIST1) | SIST1_SELECTION_TIMEOUT);
    }
}

/// Transfers of control.
fn control(state: &mut State, op: u32, arg: u32) {
    let holds = condition(state, op);
    let address = if op & 1 << 23 != 0 { state.long(reg::DSP).wrapping_add(signed24(arg)) } else { arg };
    match op >> 27 & 7 {
        _ if !holds => {}
        0 => state.put_long(reg::DSP, address),
        1 => {
            state.put_long(reg::TEMP, state.long(reg::DSP));
            state.put_long(reg::DSP, address);
        }
        2 => state.put_long(reg::DSP, state.long(reg::TEMP)),
        3 if op & 1 << 20 != 0 => {
            state.put(reg::ISTAT, state.byte(reg::ISTAT) | ISTAT_ON_THE_FLY);
        }
        3 => state.stop(DSTAT_SCRIPT),
        _ => state.stop(DSTAT_ILLEGAL),
    }
}

/// Whether a transfer of control happens. A target's phase is always valid, so that there is nothing to wait for.
fn condition(state: &State, op: u32) -> bool {
    let wanted = op & 1 << 19 != 0;
    if op & 1 << 21 != 0 {
        return state.carry == wanted;
    }
    let phase = op & 1 << 17 != 0;
    let data = op & 1 << 18 != 0;
    let mask = !(op >> 8) as u8;
    let same_phase = op >> 24 & 7 == state.phase().into();
    let same_data = (state.byte(reg::SFBR) ^ op as u8) & mask == 0;
    ((!phase || same_phase) && (!data || same_data)) == wanted
}

/// Arithmetic between a register, SFBR and a byte.
fn compute(state: &mut State, op: u32) -> Asked {
    let register = (op >> 16 & 0x7f) as usize;
    let data = (op >> 8) as u8;
    let kind = op >> 27 & 7;
    let value = if kind == 5 { state.byte(reg::SFBR) } else { state.read(register) };
    let carry = state.carry;
    let result = match op >> 24 & 7 {
        0 => data,
        1 => {
            state.carry = value >> 7 != 0;
            value << 1 | u8::from(carry)
        }
        2 => value | data,
        3 => value ^ data,
        4 => value & data,
        5 => {
            state.carry = value & 1 != 0;
            value >> 1 | u8::from(carry) << 7
        }
        with_carry => {
            let sum = u16::from(value) + u16::from(data) + u16::from(with_carry == 7 && carry);
            state.carry = sum > 0xff;
            sum as u8
        }
    };
    let target = if kind == 6 { reg::SFBR } else { register };
    state.write(target, result)
}
