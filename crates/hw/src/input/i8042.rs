//! `i8042`: the PC's keyboard controller, with a keyboard and a mouse attached.
//!
//! Port 0x60 is data both ways, port 0x64 is the command register to write and the status to read. As far as kernels and
//! firmware probe it: every command below, the answers of keyboard and mouse, and both interrupts. What must always
//! hold: a byte is in the output buffer until port 0x60 is read, and each byte that gets there makes an edge on its
//! interrupt line. (Intel UPI-41AH/42AH user's manual; IBM PS/2 Hardware Interface Technical Reference,
//! "Keyboard and Auxiliary Device Controller".)
//!
//! | command | |
//! |---|---|
//! | 20–3f | read controller RAM: 20 is the command byte, the others are not there |
//! | 60 | write the command byte: interrupts (bits 0, 1), system flag (2), keyboard and mouse off (4, 5), translation (6) |
//! | a7, a8, a9 | mouse off, on; its interface is tested: 0 |
//! | aa, ab | self test: 55; the keyboard's interface is tested: 0 |
//! | ad, ae | keyboard off, on |
//! | c0 | read the input port: 80 |
//! | d0, d1 | read, write the output port: not reset (bit 0), A20 (1), output buffer full (4, 5) |
//! | d2, d3, d4 | write to the output buffer as keyboard, as mouse; write to the mouse |
//! | dd, df | A20 off, on |
//! | f0–ff | pulse the output lines whose bits are 0: bit 0 resets the machine |
//!
//! Not modelled: the mouse does not move; keys come only by [`I8042::key`], in the codes of scan code set 2 whichever set
//! the guest has chosen; time-outs, parity errors and password commands (a4 to a6, which no QEMU has); status bit 3 is always 1 as on
//! QEMU, where a PC's tells whether the last byte written was a command.

use std::fmt;
use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, Effects, IrqLine, QtreeDevice, Reset};

use super::ps2::{Keyboard, Mouse};

/// The data port.
pub const DATA: u16 = 0x60;
/// The command and status port.
pub const COMMAND: u16 = 0x64;

const STATUS_FULL: u8 = 1;
const STATUS_SYSTEM: u8 = 1 << 2;
/// Last byte was a command; the keyboard is not locked.
const STATUS_ALWAYS: u8 = 0x18;
const STATUS_MOUSE: u8 = 1 << 5;
const MODE_KEYBOARD_IRQ: u8 = 1;
const MODE_MOUSE_IRQ: u8 = 1 << 1;
const MODE_SYSTEM: u8 = 1 << 2;
const MODE_KEYBOARD_OFF: u8 = 1 << 4;
const MODE_MOUSE_OFF: u8 = 1 << 5;
const MODE_TRANSLATE: u8 = 1 << 6;
const OUT_NOT_RESET: u8 = 1;
const OUT_A20: u8 = 1 << 1;
const OUT_KEYBOARD_FULL: u8 = 1 << 4;
const OUT_MOUSE_FULL: u8 = 1 << 5;
/// What the output port shows after reset.
const OUT_AT_RESET: u8 = 0xcf;

/// What set 2's codes become in set 1 when the command byte asks for translation. A code from 0x80 on stays, but for 83.
static TRANSLATION: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, //
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, //
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, //
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, //
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, //
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, //
];

/// The controller.
pub struct I8042 {
    keyboard_irq: IrqLine,
    mouse_irq: IrqLine,
    a20: IrqLine,
    /// High while the keyboard, the mouse has something to say.
    inputs: [IrqLine; 2],
    reset: Arc<dyn Fn() + Send + Sync>,
    cell: DeviceCell<State>,
}

/// Whom a byte in the output buffer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// The controller itself, as keyboard or as mouse.
    Controller {
        mouse: bool,
    },
    Keyboard,
    Mouse,
}

impl From {
    fn is_mouse(self) -> bool {
        matches!(self, From::Mouse | From::Controller { mouse: true })
    }
}

#[derive(Debug)]
struct State {
    /// The command byte.
    mode: u8,
    system_flag: bool,
    output_port: u8,
    /// The command whose data byte is to come; commands without data do not end the waiting.
    expects: Option<u8>,
    /// Who filled the output buffer, until it is read.
    full: Option<From>,
    /// What the data port reads: the last byte that was in the output buffer.
    data: u8,
    /// The controller's own byte, waiting for the output buffer.
    waiting: Option<(u8, bool)>,
    /// The mouse's turn comes before the keyboard's.
    mouse_first: bool,
    /// Translation has seen a break prefix.
    released: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}

impl Default for State {
    fn default() -> State {
        State {
            mode: MODE_KEYBOARD_IRQ | MODE_MOUSE_IRQ,
            system_flag: false,
            output_port: OUT_AT_RESET,
            expects: None,
            full: None,
            data: 0,
            waiting: None,
            mouse_first: false,
            released: false,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

impl State {
    fn status(&self) -> u8 {
        let full = match self.full {
            None => 0,
            Some(from) => STATUS_FULL | if from.is_mouse() { STATUS_MOUSE } else { 0 },
        };
        STATUS_ALWAYS | full | if self.system_flag { STATUS_SYSTEM } else { 0 }
    }

    /// The next byte of the keyboard, translated if that is on.
    fn take_from_keyboard(&mut self) -> Option<u8> {
        if self.mode & MODE_KEYBOARD_OFF != 0 {
            return None;
        }
        let byte = self.keyboard.take()?;
        if self.mode & MODE_TRANSLATE == 0 {
            return Some(byte);
        }
        if byte == 0xf0 {
            self.released = true;
            return self.take_from_keyboard();
        }
        let code = match byte {
            0x83 => 0x41,
            0x84 => 0x54,
            _ => TRANSLATION.get(usize::from(byte)).copied().unwrap_or(byte),
        };
        Some(code | if std::mem::take(&mut self.released) { 0x80 } else { 0 })
    }

    fn take_from_mouse(&mut self) -> Option<u8> {
        if self.mode & MODE_MOUSE_OFF != 0 { None } else { self.mouse.queue.take() }
    }

    /// Fills the output buffer if it is empty and somebody has a byte.
    fn fill(&mut self) {
        if self.full.is_some() {
            return;
        }
        let next = if let Some((byte, mouse)) = self.waiting.take() {
            Some((byte, From::Controller { mouse }))
        } else if self.mouse_first {
            let mouse = self.take_from_mouse().map(|byte| (byte, From::Mouse));
            mouse.or_else(|| Some((self.take_from_keyboard()?, From::Keyboard)))
        } else {
            let keyboard = self.take_from_keyboard().map(|byte| (byte, From::Keyboard));
            keyboard.or_else(|| Some((self.take_from_mouse()?, From::Mouse)))
        };
        if let Some((byte, from)) = next {
            self.data = byte;
            self.full = Some(from);
            // They take turns; after the controller it is the keyboard's.
            self.mouse_first = from == From::Keyboard;
            self.output_port |= if from.is_mouse() { OUT_MOUSE_FULL } else { OUT_KEYBOARD_FULL };
        }
    }

    /// An answer of the controller itself. One that has not been read yet is replaced.
    fn answer(&mut self, byte: u8, mouse: bool) {
        if let Some(From::Controller { .. }) = self.full {
            self.data = byte;
        } else {
            self.waiting = Some((byte, mouse));
        }
    }

    fn read(&mut self) -> u8 {
        if self.full.take().is_some() {
            self.output_port &= !(OUT_KEYBOARD_FULL | OUT_MOUSE_FULL);
        }
        self.data
    }

    /// Whether the machine is to be reset by it.
    fn set_output_port(&mut self, value: u8) -> bool {
        self.output_port = value;
        value & OUT_NOT_RESET == 0
    }

    /// A command; returns whether the machine is to be reset by it.
    fn command(&mut self, command: u8) -> bool {
        match command {
            0x20 => self.answer(self.mode, false),
            0x60 | 0xd1..=0xd4 => self.expects = Some(command),
            0xa7 => self.mode |= MODE_MOUSE_OFF,
            0xa8 => self.mode &= !MODE_MOUSE_OFF,
            0xa9 | 0xab => self.answer(0x00, false),
            0xaa => {
                self.system_flag = true;
                self.answer(0x55, false);
            }
            0xad => self.mode |= MODE_KEYBOARD_OFF,
            0xae => self.mode &= !MODE_KEYBOARD_OFF,
            0xc0 => self.answer(0x80, false),
            0xd0 => self.answer(self.output_port, false),
            0xdd => self.output_port &= !OUT_A20,
            0xdf => self.output_port |= OUT_A20,
            0xf0..=0xff => return command & OUT_NOT_RESET == 0,
            _ => {}
        }
        false
    }

    /// A data byte; returns whether the machine is to be reset by it.
    fn write(&mut self, byte: u8) -> bool {
        match self.expects.take() {
            Some(0x60) => {
                self.mode = byte;
                self.system_flag = byte & MODE_SYSTEM != 0;
            }
            Some(0xd1) => return self.set_output_port(byte),
            Some(0xd2) => self.answer(byte, false),
            Some(0xd3) => self.answer(byte, true),
            Some(_) => {
                // Speaking to a device turns it on.
                self.mode &= !MODE_MOUSE_OFF;
                if self.mouse.command(byte) && self.full == Some(From::Mouse) {
                    self.read();
                }
            }
            None => {
                self.mode &= !MODE_KEYBOARD_OFF;
                if self.full == Some(From::Keyboard) {
                    // What the keyboard had begun to say is void, and it is still its turn.
                    self.read();
                    self.mouse_first = false;
                }
                self.released = false;
                self.keyboard.command(byte);
            }
        }
        false
    }

    fn raises(&self, mouse: bool) -> bool {
        let enabled = if mouse { MODE_MOUSE_IRQ } else { MODE_KEYBOARD_IRQ };
        self.mode & enabled != 0 && self.full.is_some_and(|from| from.is_mouse() == mouse)
    }
}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8042").finish_non_exhaustive()
    }
}

impl I8042 {
    /// A controller that calls `reset` when a guest pulses the reset line; the call comes from inside the access.
    pub fn new(reset: impl Fn() + Send + Sync + 'static) -> Arc<I8042> {
        let a20 = IrqLine::new("i8042.a20");
        a20.set(true);
        Arc::new(I8042 {
            keyboard_irq: IrqLine::new("i8042.keyboard"),
            mouse_irq: IrqLine::new("i8042.mouse"),
            a20,
            inputs: ["ps2-kbd-input-irq", "ps2-mouse-input-irq"].map(IrqLine::new),
            reset: Arc::new(reset),
            cell: DeviceCell::new(State::default()),
        })
    }

    /// High while a byte of the keyboard is in the output buffer and its interrupt is enabled.
    pub fn keyboard_irq(&self) -> &IrqLine {
        &self.keyboard_irq
    }

    /// The same for the mouse.
    pub fn mouse_irq(&self) -> &IrqLine {
        &self.mouse_irq
    }

    /// The gate of address line 20.
    pub fn a20(&self) -> &IrqLine {
        &self.a20
    }

    /// High while the keyboard has bytes for the controller.
    pub fn keyboard_input(&self) -> &IrqLine {
        let [keyboard, _] = &self.inputs;
        keyboard
    }

    /// High while the mouse has bytes for the controller.
    pub fn mouse_input(&self) -> &IrqLine {
        let [_, mouse] = &self.inputs;
        mouse
    }

    /// The keyboard sends a key's code: that of scan code set 2, such as 1c for *A*, f0 1c when it is let go. `false` if it
    /// was not sent, because the guest has switched scanning off or does not read.
    pub fn key(&self, code: &[u8]) -> bool {
        self.change(|state| state.keyboard.key(code))
    }

    /// Which lights are on: scroll, num and caps lock in bits 0 to 2.
    pub fn leds(&self) -> u8 {
        self.cell.peek(|state| state.keyboard.leds())
    }

    /// The data port and the command port.
    pub fn regions(self: &Arc<Self>, owner: &Owner) -> [(u16, Region); 2] {
        [
            (DATA, Region::io("i8042-data", 1, Port { chip: self.clone(), command: false }).owner(owner)),
            (COMMAND, Region::io("i8042-cmd", 1, Port { chip: self.clone(), command: true }).owner(owner)),
        ]
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("i8042")
            .gpio_in("ps2-mouse-input-irq", 1)
            .gpio_in("ps2-kbd-input-irq", 1)
            .gpio_out("", 2)
            .gpio_out("a20", 1)
            .flag("extended-state", true)
            .flag("kbd-throttle", false)
            .number("kbd-irq", 1)
            .number("mouse-irq", 12)
    }

    /// Changes the state, fills the output buffer and drives the lines.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.cell.with(|state, effects: &mut Effects| {
            let result = f(state);
            let was_empty = state.full.is_none();
            state.fill();
            let newly = was_empty && state.full.is_some();
            for (line, mouse) in [(&self.keyboard_irq, false), (&self.mouse_irq, true)] {
                let level = state.raises(mouse);
                if newly && level {
                    // The byte before may have been read just now: this one makes an edge of its own.
                    effects.line(line, false);
                }
                effects.line(line, level);
            }
            effects.line(&self.a20, state.output_port & OUT_A20 != 0);
            let [keyboard, mouse] = &self.inputs;
            effects.line(keyboard, !state.keyboard.queue.is_empty());
            effects.line(mouse, !state.mouse.queue.is_empty());
            result
        })
    }

    fn write(&self, command: bool, value: u8) {
        let resets = self.change(|state| if command { state.command(value) } else { state.write(value) });
        if resets {
            (self.reset)();
        }
    }

    fn read(&self, command: bool) -> u8 {
        if command { self.cell.peek(State::status) } else { self.change(State::read) }
    }
}

impl Reset for I8042 {
    fn reset(&self) {
        self.change(|state| *state = State::default());
    }
}

struct Port {
    chip: Arc<I8042>,
    command: bool,
}

impl MmioOps for Port {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.chip.read(self.command).into())
    }

    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.chip.write(self.command, value as u8);
        Ok(())
    }

    fn peek(&self, _offset: u64, size: u32) -> Option<u64> {
        (self.command && size == 1).then(|| self.chip.read(true).into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn chip() -> (Arc<I8042>, Arc<AtomicUsize>) {
        let resets = Arc::new(AtomicUsize::new(0));
        let count = resets.clone();
        let chip = I8042::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (chip, resets)
    }

    /// A command with its data.
    fn command(chip: &I8042, command: u8, data: &[u8]) {
        chip.write(true, command);
        data.iter().for_each(|byte| chip.write(false, *byte));
    }

    fn mouse(chip: &I8042, bytes: &[u8]) {
        bytes.iter().for_each(|byte| command(chip, 0xd4, &[*byte]));
    }

    /// Everything there is to read: (status, byte).
    fn drain(chip: &I8042) -> Vec<(u8, u8)> {
        std::iter::from_fn(|| {
            let status = chip.read(true);
            (status & 1 != 0).then(|| (status, chip.read(false)))
        })
        .collect()
    }

    fn bytes(chip: &I8042) -> Vec<u8> {
        drain(chip).into_iter().map(|(_, byte)| byte).collect()
    }

    fn edges(line: &IrqLine) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        line.connect(move |level| {
            seen.fetch_add(usize::from(level), Ordering::Relaxed);
        });
        count
    }

    #[test]
    fn the_controller_passes_the_tests_of_a_kernel() {
        let (chip, _) = chip();
        assert_eq!((chip.read(true), chip.read(false)), (0x18, 0));
        command(&chip, 0xaa, &[]);
        assert_eq!(drain(&chip), [(0x1d, 0x55)]);
        for (asked, answer) in [(0xab, 0), (0xa9, 0), (0xc0, 0x80), (0xd0, 0xcf), (0x20, 0x03)] {
            command(&chip, asked, &[]);
            assert_eq!(drain(&chip), [(0x1d, answer)], "{asked:#x}");
        }
        assert_eq!(chip.read(false), 0x03, "the data port keeps the last byte");
    }

    #[test]
    fn the_command_byte_is_kept_and_its_system_flag_shows_in_the_status() {
        let (chip, _) = chip();
        command(&chip, 0x60, &[0x47]);
        command(&chip, 0x20, &[]);
        assert_eq!(drain(&chip), [(0x1d, 0x47)]);
        command(&chip, 0x60, &[0x43]);
        assert_eq!(chip.read(true), 0x18);
        for (asked, mode) in [(0xad, 0x53), (0xa7, 0x73), (0xae, 0x63), (0xa8, 0x43)] {
            command(&chip, asked, &[]);
            command(&chip, 0x20, &[]);
            assert_eq!(bytes(&chip), [mode], "{asked:#x}");
        }
    }

    #[test]
    fn devices_that_are_off_keep_their_answers_and_being_spoken_to_turns_them_on() {
        let (chip, _) = chip();
        chip.write(false, 0xf2);
        mouse(&chip, &[0xf2]);
        command(&chip, 0xad, &[]);
        command(&chip, 0xa7, &[]);
        assert_eq!(bytes(&chip), [0xfa], "what was in the buffer already");
        command(&chip, 0xae, &[]);
        assert_eq!(bytes(&chip), [0xab, 0x83]);
        command(&chip, 0xad, &[]);
        chip.write(false, 0xee);
        mouse(&chip, &[0xe6]);
        assert_eq!(bytes(&chip), [0xee, 0xfa, 0x00, 0xfa]);
    }

    #[test]
    fn controller_keyboard_and_mouse_take_turns() {
        let (chip, _) = chip();
        chip.write(false, 0xf2);
        mouse(&chip, &[0xf2]);
        command(&chip, 0x20, &[]);
        let expected = [(0x19, 0xfa), (0x19, 0x03), (0x19, 0xab), (0x39, 0xfa), (0x19, 0x83), (0x39, 0x00)];
        assert_eq!(drain(&chip), expected);
        mouse(&chip, &[0xf2]);
        chip.write(false, 0xf2);
        command(&chip, 0xd3, &[0x77]);
        let expected = [(0x39, 0xfa), (0x39, 0x77), (0x19, 0xfa), (0x39, 0x00), (0x19, 0xab), (0x19, 0x83)];
        assert_eq!(drain(&chip), expected);
    }

    #[test]
    fn each_byte_makes_an_edge_on_its_interrupt_line() {
        let (chip, _) = chip();
        let (keyboard, aux) = (edges(chip.keyboard_irq()), edges(chip.mouse_irq()));
        chip.write(false, 0xf2);
        assert!(chip.keyboard_irq().level());
        assert_eq!(bytes(&chip).len(), 3);
        assert!(!chip.keyboard_irq().level());
        mouse(&chip, &[0xff]);
        assert_eq!(bytes(&chip).len(), 3);
        assert_eq!((keyboard.load(Ordering::Relaxed), aux.load(Ordering::Relaxed)), (3, 3));
        command(&chip, 0x60, &[0]);
        chip.write(false, 0xee);
        assert!(!chip.keyboard_irq().level());
        command(&chip, 0x60, &[1]);
        assert!(chip.keyboard_irq().level(), "a byte that waits interrupts once that is enabled");
    }

    #[test]
    fn keys_are_translated_to_set_1_if_the_command_byte_says_so() {
        let (chip, _) = chip();
        assert!(chip.key(&[0x1c]) && chip.key(&[0xf0, 0x1c]));
        assert_eq!(bytes(&chip), [0x1c, 0xf0, 0x1c]);
        command(&chip, 0x60, &[0x43]);
        // A, right control (e0 14), and their releases; F7, whose code has the top bit.
        for code in [&[0x1c][..], &[0xf0, 0x1c], &[0xe0, 0x14], &[0xe0, 0xf0, 0x14], &[0x83], &[0xf0, 0x83]] {
            assert!(chip.key(code));
        }
        assert_eq!(bytes(&chip), [0x1e, 0x9e, 0xe0, 0x1d, 0xe0, 0x9d, 0x41, 0xc1]);
        chip.write(false, 0xf2);
        assert_eq!(bytes(&chip), [0xfa, 0xab, 0x41], "answers are translated as well");
    }

    #[test]
    fn the_output_port_gates_a20_and_resets() {
        let (chip, resets) = chip();
        assert!(chip.a20().level());
        command(&chip, 0xdd, &[]);
        assert!(!chip.a20().level());
        command(&chip, 0xdf, &[]);
        assert!(chip.a20().level());
        command(&chip, 0xd1, &[0xcd]);
        assert!(!chip.a20().level());
        assert_eq!(resets.load(Ordering::Relaxed), 0);
        for (asked, data) in [(0xfe, None), (0xf0, None), (0xd1, Some(0x02))] {
            command(&chip, asked, data.as_slice());
        }
        assert_eq!(resets.load(Ordering::Relaxed), 3);
        for asked in [0xff, 0xf1, 0xfd] {
            command(&chip, asked, &[]);
        }
        assert_eq!(resets.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn bytes_can_be_put_into_the_output_buffer() {
        let (chip, _) = chip();
        command(&chip, 0xd2, &[0x5a]);
        assert_eq!(drain(&chip), [(0x19, 0x5a)]);
        command(&chip, 0xd3, &[0xa5]);
        assert_eq!(drain(&chip), [(0x39, 0xa5)]);
    }

    #[test]
    fn the_output_port_shows_that_the_buffer_is_full() {
        let (chip, _) = chip();
        chip.write(false, 0xee);
        command(&chip, 0xd0, &[]);
        assert_eq!(bytes(&chip), [0xee, 0xdf]);
        mouse(&chip, &[0xe6]);
        command(&chip, 0xd0, &[]);
        assert_eq!(bytes(&chip), [0xfa, 0xef]);
    }

    #[test]
    fn a_reset_drops_everything() {
        let (chip, _) = chip();
        command(&chip, 0x60, &[0x74]);
        command(&chip, 0xd1, &[0x01]);
        chip.write(false, 0xf2);
        mouse(&chip, &[0xf4, 0xe9]);
        chip.reset();
        assert_eq!((chip.read(true), chip.a20().level(), chip.keyboard_irq().level()), (0x18, true, false));
        command(&chip, 0x20, &[]);
        assert_eq!(bytes(&chip), [0x03]);
    }
}
