//! `serial`: National's 16550A UART.
//!
//! Eight byte-wide registers. Characters leave at once: the line's speed is not modelled, only how long a receiver
//! waits before it says that the line has become quiet (four character times). A break from the other side is a zero with
//! LSR's break bit; parity and framing errors do not occur, and a break that the guest sends (LCR bit 6) goes nowhere. The modem lines say that somebody is there and never change, so MSR's delta bits stay 0; in
//! loop-back too, as on QEMU. (PC16550D datasheet, §8.)

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{CharBackend, CharEvent, CharSink, Clock, DeviceCell, Effects, IrqLine, Reset, Timer};

/// Bytes of the region.
pub const SIZE: u128 = 8;
const FIFO: usize = 16;
/// What the divisor counts at.
const CLOCK_HZ: u64 = 115_200;
/// The divisor after reset: 9600 baud.
const DIVISOR: u16 = 12;

const IER_RX: u8 = 1;
const IER_TX: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;
const FCR_ENABLE: u8 = 1;
const LCR_DIVISOR: u8 = 1 << 7;
const MCR_LOOP: u8 = 1 << 4;
const MCR_OUT2: u8 = 1 << 3;
const LSR_DATA: u8 = 1;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_BREAK: u8 = 1 << 4;
const LSR_TX_EMPTY: u8 = 1 << 5;
const LSR_TX_IDLE: u8 = 1 << 6;
const LSR_FIFO_ERROR: u8 = 1 << 7;
/// Carrier, data set ready, clear to send.
const MSR_THERE: u8 = 0xb0;

/// The UART.
pub struct Serial16550 {
    backend: Arc<dyn CharBackend>,
    clock: Clock,
    irq: IrqLine,
    cell: DeviceCell<State>,
    /// Tells that the receiver has been quiet.
    quiet: OnceLock<Timer>,
    /// Tries again to hand over what the back end did not take.
    retry: OnceLock<Timer>,
}

#[derive(Debug)]
struct State {
    divisor: u16,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    overrun: bool,
    /// The transmitter has become empty and nobody has been told.
    tx_pending: bool,
    /// Characters have waited longer than four character times.
    rx_quiet: bool,
    received: VecDeque<Received>,
    /// The receiver buffer of a UART without FIFO, which keeps what was read.
    buffer: u8,
    /// What the back end has not taken yet.
    sending: VecDeque<u8>,
}

/// A character that waits to be read.
#[derive(Debug, Clone, Copy)]
struct Received {
    byte: u8,
    /// It is a break that LSR has not told of.
    is_break: bool,
}

impl State {
    fn at_reset() -> State {
        State {
            divisor: DIVISOR,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: MCR_OUT2,
            scratch: 0,
            overrun: false,
            tx_pending: false,
            rx_quiet: false,
            received: VecDeque::new(),
            buffer: 0,
            sending: VecDeque::new(),
        }
    }

    fn has_fifo(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    /// How many characters must wait before the receiver interrupts.
    fn trigger(&self) -> usize {
        match (self.has_fifo(), self.fcr >> 6) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            _ => 14,
        }
    }

    fn capacity(&self) -> usize {
        if self.has_fifo() { FIFO } else { 1 }
    }

    fn line_status(&self) -> u8 {
        let data = if self.received.is_empty() { 0 } else { LSR_DATA };
        let overrun = if self.overrun { LSR_OVERRUN } else { 0 };
        let sent = if self.sending.is_empty() { LSR_TX_EMPTY | LSR_TX_IDLE } else { 0 };
        let at_top = if self.is_break_next() { LSR_BREAK } else { 0 };
        let waits = self.has_fifo() && self.received.iter().any(|received| received.is_break);
        data | overrun | sent | at_top | if waits { LSR_FIFO_ERROR } else { 0 }
    }

    /// Whether the next character to be read is a break that was not told of.
    fn is_break_next(&self) -> bool {
        self.received.front().is_some_and(|received| received.is_break)
    }

    fn modem_status(&self) -> u8 {
        if self.mcr & MCR_LOOP == 0 {
            return MSR_THERE;
        }
        // The modem outputs are wired to the inputs: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
        [(1, 1 << 4), (0, 1 << 5), (2, 1 << 6), (3, 1 << 7)]
            .into_iter()
            .filter(|(output, _)| self.mcr >> output & 1 != 0)
            .fold(0, |status, (_, input)| status | input)
    }

    /// The interrupt identification register.
    fn identification(&self) -> u8 {
        let fifo = if self.has_fifo() { 0xc0 } else { 0 };
        let source = if self.ier & IER_LINE != 0 && (self.overrun || self.is_break_next()) {
            6
        } else if self.ier & IER_RX != 0 && self.rx_quiet {
            0xc
        } else if self.ier & IER_RX != 0 && self.received.len() >= self.trigger() {
            4
        } else if self.ier & IER_TX != 0 && self.tx_pending {
            2
        } else {
            1
        };
        fifo | source
    }

    /// Nanoseconds that four characters take on the line.
    fn quiet_time(&self) -> i64 {
        let bits =
            1 + 5 + u64::from(self.lcr & 3) + u64::from(self.lcr >> 3 & 1) + 1 + u64::from(self.lcr >> 2 & 1);
        (4 * bits * u64::from(self.divisor.max(1)) * 1_000_000_000 / CLOCK_HZ) as i64
    }
}

impl fmt::Debug for Serial16550 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial16550").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Serial16550 {
    /// A UART whose characters go to and come from `backend`.
    pub fn new(name: &str, backend: Arc<dyn CharBackend>, clock: &Clock) -> Arc<Serial16550> {
        let uart = Arc::new(Serial16550 {
            backend,
            clock: clock.clone(),
            irq: IrqLine::new(format!("{name}.irq")),
            cell: DeviceCell::new(State::at_reset()),
            quiet: OnceLock::new(),
            retry: OnceLock::new(),
        });
        let weak = Arc::downgrade(&uart);
        let quiet = clock.timer(move || {
            with_uart(&weak, |uart| uart.with(|state| state.rx_quiet = !state.received.is_empty()));
        });
        let _ = uart.quiet.set(quiet);
        let weak = Arc::downgrade(&uart);
        let _ = uart.retry.set(clock.timer(move || with_uart(&weak, Serial16550::send)));
        uart.backend.attach(Arc::new(Receiver(Arc::downgrade(&uart))));
        uart
    }

    /// High while an enabled interrupt is pending.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// The eight registers.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("serial", SIZE, Registers(self.clone())).owner(owner)
    }

    /// Changes the state and drives the interrupt line.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.cell.with(|state, effects| {
            let result = f(state);
            self.drive(state, effects);
            result
        })
    }

    /// The line is driven where an interrupt may have come or gone, even to the level it has: a line that it shares
    /// with another device follows the one that drove it last.
    fn drive(&self, state: &State, effects: &mut Effects) {
        effects.drive(&self.irq, state.identification() & 1 == 0);
    }

    /// Hands over what is to be sent, as far as the back end takes it.
    fn send(&self) {
        let left = self.with(|state| {
            // The back end never blocks and calls nobody back, so it may be called with the state locked.
            let taken = self.backend.write(state.sending.make_contiguous());
            state.sending.drain(..taken.min(state.sending.len()));
            if state.sending.is_empty() {
                state.tx_pending = true;
            }
            !state.sending.is_empty()
        });
        if let (true, Some(retry)) = (left, self.retry.get()) {
            retry.arm(self.clock.now() + 1_000_000);
        }
    }

    fn take(&self, bytes: &[u8]) {
        self.take_all(bytes.iter().map(|byte| Received { byte: *byte, is_break: false }));
    }

    fn take_all(&self, all: impl IntoIterator<Item = Received>) {
        let time = self.with(|state| {
            for received in all {
                state.overrun |= state.received.len() >= state.capacity();
                if !state.has_fifo() {
                    // Without FIFO it is the older character that is lost.
                    state.received.clear();
                    state.buffer = received.byte;
                }
                if state.received.len() < state.capacity() {
                    state.received.push_back(received);
                }
            }
            state.has_fifo().then(|| state.quiet_time())
        });
        self.watch_quiet(time);
    }

    fn watch_quiet(&self, time: Option<i64>) {
        if let (Some(time), Some(quiet)) = (time, self.quiet.get()) {
            quiet.arm(self.clock.now() + time);
        }
    }

    fn read(&self, register: u64) -> u8 {
        let mut time = None;
        let value = self.cell.with(|state, effects| match (register, state.lcr & LCR_DIVISOR != 0) {
            (0, true) => state.divisor as u8,
            (1, true) => (state.divisor >> 8) as u8,
            (0, false) => {
                state.rx_quiet = false;
                let empty = if state.has_fifo() { 0 } else { state.buffer };
                let byte = state.received.pop_front().map_or(empty, |received| received.byte);
                time = (state.has_fifo() && !state.received.is_empty()).then(|| state.quiet_time());
                self.drive(state, effects);
                byte
            }
            (1, false) => state.ier,
            (2, _) => {
                let value = state.identification();
                if value & 0xf == 2 {
                    state.tx_pending = false;
                    self.drive(state, effects);
                }
                value
            }
            (3, _) => state.lcr,
            (4, _) => state.mcr,
            (5, _) => {
                let value = state.line_status();
                if state.overrun || state.is_break_next() {
                    state.overrun = false;
                    if let Some(told) = state.received.front_mut() {
                        told.is_break = false;
                    }
                    self.drive(state, effects);
                }
                value
            }
            (6, _) => state.modem_status(),
            _ => state.scratch,
        });
        self.watch_quiet(time);
        value
    }

    fn write(&self, register: u64, value: u8) {
        let (sent, looped) = self.cell.with(|state, effects| {
            match (register, state.lcr & LCR_DIVISOR != 0) {
                (0, true) => state.divisor = state.divisor & 0xff00 | u16::from(value),
                (1, true) => state.divisor = state.divisor & 0x00ff | u16::from(value) << 8,
                (0, false) => {
                    // The interrupt ends here and comes again when the character has left, so that a guest that
                    // does not read IIR in between still gets an edge for each.
                    state.tx_pending = false;
                    self.drive(state, effects);
                    if state.mcr & MCR_LOOP != 0 {
                        state.tx_pending = true;
                        self.drive(state, effects);
                        return (false, true);
                    }
                    if state.sending.len() < FIFO {
                        state.sending.push_back(value);
                    }
                    return (true, false);
                }
                (1, false) => {
                    let value = value & (IER_RX | IER_TX | IER_LINE | IER_MODEM);
                    let changed = value ^ state.ier;
                    state.ier = value;
                    if changed & value & IER_TX != 0 && state.sending.is_empty() {
                        state.tx_pending = true;
                    }
                    if changed != 0 {
                        self.drive(state, effects);
                    }
                }
                (2, _) => {
                    let toggled = (value ^ state.fcr) & FCR_ENABLE != 0;
                    if toggled || value & 2 != 0 {
                        state.received.clear();
                        state.rx_quiet = false;
                    }
                    if toggled || value & 4 != 0 {
                        state.sending.clear();
                        state.tx_pending = true;
                    }
                    state.fcr = value & 0xc9;
                    self.drive(state, effects);
                }
                (3, _) => state.lcr = value,
                (4, _) => state.mcr = value & 0x1f,
                (7, _) => state.scratch = value,
                // Line and modem status are read-only.
                _ => {}
            }
            (false, false)
        });
        if sent {
            self.send();
        }
        if looped {
            self.take(&[value]);
        }
    }
}

fn with_uart(uart: &Weak<Serial16550>, f: impl FnOnce(&Serial16550)) {
    if let Some(uart) = uart.upgrade() {
        f(&uart);
    }
}

impl Reset for Serial16550 {
    fn reset(&self) {
        if let Some(quiet) = self.quiet.get() {
            quiet.cancel();
        }
        self.with(|state| *state = State::at_reset());
    }
}

struct Receiver(Weak<Serial16550>);

impl CharSink for Receiver {
    fn room(&self) -> usize {
        self.0.upgrade().map_or(0, |uart| {
            uart.cell.peek(|state| {
                let looped = state.mcr & MCR_LOOP != 0;
                if looped { 0 } else { state.capacity().saturating_sub(state.received.len()) }
            })
        })
    }

    fn receive(&self, bytes: &[u8]) {
        with_uart(&self.0, |uart| uart.take(bytes));
    }

    fn event(&self, event: CharEvent) {
        if event == CharEvent::Break {
            with_uart(&self.0, |uart| {
                // In loop-back the line from outside is cut.
                if uart.cell.peek(|state| state.mcr & MCR_LOOP == 0) {
                    uart.take_all([Received { byte: 0, is_break: true }]);
                }
            });
        }
    }
}

struct Registers(Arc<Serial16550>);

impl MmioOps for Registers {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.read(access.offset()).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(access.offset(), value as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flatview_device::chardev::MemoryBackend;

    use super::*;

    fn uart() -> (Arc<Serial16550>, Arc<MemoryBackend>, Clock) {
        let (backend, clock) = (MemoryBackend::new("serial0"), Clock::stepped());
        (Serial16550::new("serial0", backend.clone(), &clock), backend, clock)
    }

    #[test]
    fn registers_read_after_reset_as_on_qemu() {
        let (uart, ..) = uart();
        assert_eq!((0..8).map(|n| uart.read(n)).collect::<Vec<_>>(), [0, 0, 1, 0, 8, 0x60, 0xb0, 0]);
        uart.write(3, 0x80);
        assert_eq!((uart.read(0), uart.read(1)), (0x0c, 0));
    }

    #[test]
    fn what_is_written_leaves_and_the_empty_transmitter_interrupts_once() {
        let (uart, backend, _) = uart();
        uart.write(1, 2);
        assert!(uart.irq().level(), "enabling with an empty transmitter interrupts");
        assert_eq!((uart.read(2), uart.read(2)), (2, 1));
        uart.write(0, b'A');
        assert_eq!(backend.take(), b"A");
        assert_eq!((uart.read(5), uart.read(2), uart.read(2)), (0x60, 2, 1));
        assert!(!uart.irq().level());
    }

    #[test]
    fn received_characters_wait_for_the_trigger_or_for_quiet() {
        let (uart, backend, clock) = uart();
        uart.write(2, 0x81);
        uart.write(1, 1);
        assert_eq!(backend.send(b"abc"), 3);
        assert!(!uart.irq().level(), "the trigger is eight");
        assert_eq!(uart.read(5) & 1, 1);
        clock.step(None).unwrap();
        assert_eq!((uart.irq().level(), uart.read(2)), (true, 0xcc));
        assert_eq!(uart.read(0), b'a');
        assert!(!uart.irq().level());
        assert_eq!(backend.send(&[b'x'; 20]), 14, "sixteen fit");
        assert_eq!(uart.read(2), 0xc4);
    }

    #[test]
    fn a_break_is_a_zero_that_the_line_status_tells_of_when_it_is_next() {
        let (uart, backend, _) = uart();
        let sink = Receiver(Arc::downgrade(&uart));
        uart.write(2, 1);
        uart.write(1, 4);
        assert_eq!(backend.send(b"a"), 1);
        sink.event(CharEvent::Break);
        assert_eq!((uart.read(5), uart.irq().level()), (0xe1, false), "it waits behind a character");
        assert_eq!(uart.read(0), b'a');
        assert_eq!((uart.irq().level(), uart.read(2)), (true, 0xc6));
        assert_eq!((uart.read(5), uart.read(5)), (0xf1, 0x61), "reading ends it");
        assert!(!uart.irq().level());
        assert_eq!((uart.read(0), uart.read(5)), (0, 0x60));
        // Without FIFO, and looped back.
        uart.write(2, 0);
        sink.event(CharEvent::Break);
        assert_eq!((uart.read(5), uart.read(0)), (0x71, 0));
        uart.write(4, 0x10);
        sink.event(CharEvent::Break);
        assert_eq!(uart.read(5), 0x60);
    }

    #[test]
    fn loop_back_returns_characters_and_modem_outputs_and_can_overrun() {
        let (uart, backend, _) = uart();
        for (mcr, msr) in [(0x10, 0), (0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80), (0x1f, 0xf0)] {
            uart.write(4, mcr);
            assert_eq!(uart.read(6), msr, "{mcr:#x}");
        }
        uart.write(2, 0xc7);
        (0..20).for_each(|n| uart.write(0, n));
        assert!(backend.take().is_empty());
        assert_eq!((uart.read(5), uart.read(5)), (0x63, 0x61));
        assert_eq!((0..17).map(|_| uart.read(0)).collect::<Vec<_>>(), (0..16).chain([0]).collect::<Vec<_>>());
    }

    /// How often the line has risen since this was called.
    fn edges(uart: &Serial16550) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let last = std::sync::atomic::AtomicBool::new(uart.irq().level());
        uart.irq().connect(move |level| {
            if level && !last.swap(level, Ordering::Relaxed) {
                seen.fetch_add(1, Ordering::Relaxed);
            }
            last.store(level, Ordering::Relaxed);
        });
        count
    }

    #[test]
    fn each_character_sent_makes_an_edge_even_if_nobody_asks_who_interrupted() {
        for mcr in [0x08, 0x18] {
            let (uart, ..) = uart();
            uart.write(4, mcr);
            uart.write(1, 2);
            let edges = edges(&uart);
            (0..3).for_each(|_| uart.write(0, b'x'));
            assert_eq!(edges.load(Ordering::Relaxed), 3, "{mcr:#x}");
            assert!(uart.irq().level());
        }
    }

    #[test]
    fn an_overrun_comes_before_data_and_data_before_the_empty_transmitter() {
        let (uart, ..) = uart();
        uart.write(4, 0x10);
        uart.write(2, 0x01);
        uart.write(1, 0x07);
        (0..17).for_each(|n| uart.write(0, n));
        assert_eq!(uart.read(2), 0xc6);
        assert_eq!(uart.read(5) & 2, 2, "reading the line status ends the first");
        assert_eq!(uart.read(2), 0xc4);
        (0..16).for_each(|n| assert_eq!(uart.read(0), n));
        assert_eq!((uart.read(2), uart.read(2), uart.irq().level()), (0xc2, 0xc1, false));
    }

    #[test]
    fn the_time_out_counts_from_the_last_character_read_or_received() {
        let (uart, backend, clock) = uart();
        // 9600 baud, eight bits: a character takes 1.04 ms.
        uart.write(3, 3);
        uart.write(2, 0xc1);
        uart.write(1, 1);
        backend.send(b"abc");
        clock.step(Some(4_000_000)).unwrap();
        backend.send(b"d");
        clock.step(Some(4_000_000)).unwrap();
        assert_eq!(uart.read(2), 0xc1, "not quiet for four characters yet");
        clock.step(Some(200_000)).unwrap();
        assert_eq!(uart.read(2), 0xcc);
        assert_eq!((uart.read(0), uart.read(2)), (b'a', 0xc1), "reading ends it");
        clock.step(Some(4_200_000)).unwrap();
        assert_eq!(uart.read(2), 0xcc);
        uart.write(2, 0xc3);
        assert_eq!(
            (uart.read(2), uart.read(5), uart.irq().level()),
            (0xc1, 0x60, false),
            "the FIFO is reset"
        );
        clock.step(Some(10_000_000)).unwrap();
        assert_eq!(uart.read(2), 0xc1, "an empty FIFO does not time out");
    }

    #[test]
    fn every_trigger_level_interrupts_at_its_level() {
        for (fcr, level) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
            let (uart, backend, _) = uart();
            uart.write(2, fcr);
            uart.write(1, 1);
            backend.send(&vec![b'x'; level - 1]);
            assert!(!uart.irq().level(), "{fcr:#x}");
            backend.send(b"x");
            assert_eq!((uart.irq().level(), uart.read(2)), (true, 0xc4), "{fcr:#x}");
            uart.read(0);
            assert!(!uart.irq().level(), "below the level again");
        }
    }
}
