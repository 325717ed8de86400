//! What a PS/2 keyboard and mouse answer to the bytes that are sent to them.
//!
//! Pure state: bytes go in, bytes come out of a queue. Which byte reaches the guest, when, and through which
//! translation is the controller's business. What must always hold: a queue never has more than [`ROOM`] bytes, whatever
//! is sent. Where documents do not say what an unknown command gives, it is what QEMU 7.2 was seen to give.
//! (IBM PS/2 Hardware Interface Technical Reference, "Keyboard" and "Mouse".)

use std::collections::VecDeque;

/// Bytes that a queue holds.
pub(super) const ROOM: usize = 16;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const TESTED: u8 = 0xaa;

/// Bytes on their way to the controller. What does not fit is lost.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<u8>);

impl Queue {
    fn send(&mut self, bytes: &[u8]) {
        let room = ROOM - self.0.len().min(ROOM);
        self.0.extend(bytes.iter().take(room));
    }

    fn room(&self) -> usize {
        ROOM - self.0.len().min(ROOM)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<u8> {
        self.0.pop_front()
    }
}

/// The keyboard.
#[derive(Debug)]
pub(super) struct Keyboard {
    pub(super) queue: Queue,
    /// The command whose argument is to come.
    expects: Option<u8>,
    /// Keys are told.
    scanning: bool,
    /// Scan code set, 1 to 3.
    set: u8,
    /// Scroll, num and caps lock in bits 0 to 2.
    leds: u8,
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Keyboard {
        Keyboard { queue: Queue::default(), expects: None, scanning: true, set: 2, leds: 0, last: TESTED }
    }
}

impl Keyboard {
    /// A byte from the controller. What had not left yet is dropped, as the keyboard does when it is spoken to.
    pub(super) fn command(&mut self, byte: u8) {
        self.queue.0.clear();
        let expects = self.expects.take();
        match (expects, byte) {
            (Some(0xf0), 0) => self.queue.send(&[ACK, self.set]),
            (Some(0xf0), 1..=3) => {
                self.set = byte;
                self.queue.send(&[ACK]);
            }
            (Some(0xf0), _) => self.queue.send(&[RESEND]),
            (Some(0xed), leds) => {
                self.leds = leds & 7;
                self.queue.send(&[ACK]);
            }
            // The typematic rate, and a key whose break code is wanted: keys repeat as whoever presses them says.
            (Some(_), _) => self.queue.send(&[ACK]),
            (None, 0xed | 0xf0 | 0xf3 | 0xfc) => {
                self.expects = Some(byte);
                self.queue.send(&[ACK]);
            }
            (None, 0xee) => self.queue.send(&[0xee]),
            (None, 0xf2) => self.queue.send(&[ACK, 0xab, 0x83]),
            (None, 0xf4) => {
                self.scanning = true;
                self.queue.send(&[ACK]);
            }
            (None, 0xf5 | 0xf6) => {
                *self = Keyboard { scanning: byte == 0xf6, ..Keyboard::default() };
                self.queue.send(&[ACK]);
            }
            (None, 0x00 | 0xfa) => self.queue.send(&[ACK]),
            (None, 0xfe) => self.queue.send(&[self.last]),
            (None, 0xff) => {
                *self = Keyboard::default();
                self.queue.send(&[ACK, TESTED]);
            }
            (None, _) => self.queue.send(&[RESEND]),
        }
    }

    /// The next byte for the controller.
    pub(super) fn take(&mut self) -> Option<u8> {
        let byte = self.queue.take()?;
        self.last = byte;
        Some(byte)
    }

    /// A key's code, as this keyboard sends it. `false` if it was not sent: scanning is off, or there is no room for
    /// all of it.
    pub(super) fn key(&mut self, code: &[u8]) -> bool {
        let fits = self.scanning && self.queue.room() >= code.len();
        if fits {
            self.queue.send(code);
        }
        fits
    }

    pub(super) fn leds(&self) -> u8 {
        self.leds
    }
}

/// The mouse. It does not move yet.
#[derive(Debug)]
pub(super) struct Mouse {
    pub(super) queue: Queue,
    expects: Option<u8>,
    /// Identity: 0, with a wheel 3, with five buttons 4.
    id: u8,
    reporting: bool,
    remote: bool,
    /// Wrap mode: what comes in goes out.
    wrap: bool,
    double: bool,
    resolution: u8,
    rate: u8,
    /// The last rates set, the newest last: three certain ones ask for a wheel.
    rates: [u8; 3],
}

impl Default for Mouse {
    fn default() -> Mouse {
        Mouse {
            queue: Queue::default(),
            expects: None,
            id: 0,
            reporting: false,
            remote: false,
            wrap: false,
            double: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
        }
    }
}

impl Mouse {
    /// A byte from the controller. `true` if it was a reset, which voids what the mouse had begun to say.
    pub(super) fn command(&mut self, byte: u8) -> bool {
        let resets = byte == 0xff && self.expects.is_none();
        self.obey(byte);
        resets
    }

    fn obey(&mut self, byte: u8) {
        if self.wrap && !matches!(byte, 0xec | 0xff) {
            return self.queue.send(&[byte]);
        }
        match (self.expects.take(), byte) {
            (Some(0xe8), resolution) => self.resolution = resolution,
            (Some(_), rate) => self.set_rate(rate),
            (None, 0xe6) => self.double = false,
            (None, 0xe7) => self.double = true,
            (None, 0xe8 | 0xf3) => self.expects = Some(byte),
            (None, 0xe9) => {
                let status =
                    u8::from(self.remote) << 6 | u8::from(self.reporting) << 5 | u8::from(self.double) << 4;
                return self.queue.send(&[ACK, status, self.resolution, self.rate]);
            }
            (None, 0xea) => self.remote = false,
            (None, 0xeb) => {
                // Nothing pressed, not moved; with a wheel there is a fourth byte.
                let packet = [ACK, 0x08, 0, 0, 0];
                let length = if self.id == 0 { 4 } else { 5 };
                return self.queue.send(packet.get(..length).unwrap_or(&packet));
            }
            (None, 0xec) if self.wrap => self.wrap = false,
            (None, 0xee) => self.wrap = true,
            (None, 0xf0) => self.remote = true,
            (None, 0xf2) => return self.queue.send(&[ACK, self.id]),
            (None, 0xf4) => self.reporting = true,
            (None, 0xf5) => self.reporting = false,
            (None, 0xf6) => {
                let queue = std::mem::take(&mut self.queue);
                *self = Mouse { queue, id: self.id, wrap: self.wrap, ..Mouse::default() };
            }
            (None, 0xff) => {
                *self = Mouse::default();
                return self.queue.send(&[ACK, TESTED, self.id]);
            }
            // Anything else is met with silence.
            (None, _) => return,
        }
        self.queue.send(&[ACK]);
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.rates = [self.rates[1], self.rates[2], rate];
        match self.rates {
            [200, 100, 80] => self.id = 3,
            [200, 200, 80] => self.id = 4,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyboard(sent: &[u8]) -> Vec<u8> {
        let mut keyboard = Keyboard::default();
        let answer = |byte: &u8| {
            keyboard.command(*byte);
            std::iter::from_fn(|| keyboard.take()).collect::<Vec<_>>()
        };
        sent.iter().flat_map(answer).collect()
    }

    fn mouse(sent: &[u8]) -> Vec<u8> {
        let mut mouse = Mouse::default();
        let answer = |byte: &u8| {
            mouse.command(*byte);
            std::iter::from_fn(|| mouse.queue.take()).collect::<Vec<_>>()
        };
        sent.iter().flat_map(answer).collect()
    }

    #[test]
    fn a_keyboard_answers_what_kernels_ask_when_they_probe() {
        assert_eq!(keyboard(&[0xff]), [0xfa, 0xaa]);
        assert_eq!(keyboard(&[0xf2]), [0xfa, 0xab, 0x83]);
        assert_eq!(keyboard(&[0xee]), [0xee]);
        assert_eq!(keyboard(&[0xed, 0x02, 0xf3, 0x20, 0xf4, 0xf5, 0xf6]), [0xfa; 7]);
        assert_eq!(
            keyboard(&[0xf0, 0, 0xf0, 1, 0xf0, 0, 0xf0, 9]),
            [0xfa, 0xfa, 2, 0xfa, 0xfa, 0xfa, 0xfa, 1, 0xfa, 0xfe]
        );
        assert_eq!(keyboard(&[0xe1]), [0xfe]);
        assert_eq!(keyboard(&[0xee, 0xfe]), [0xee, 0xee], "the last byte again");
    }

    #[test]
    fn a_keyboard_tells_keys_while_it_scans_and_as_far_as_they_fit() {
        let mut board = Keyboard::default();
        assert!(board.key(&[0x1c]));
        assert!((0..7).all(|_| board.key(&[0xf0, 0x1c])));
        assert!(!board.key(&[0xf0, 0x1c]), "one byte of room is not enough for both");
        assert_eq!(std::iter::from_fn(|| board.take()).count(), 15);
        board.command(0xf5);
        assert!(!board.key(&[0x1c]));
        board.command(0xed);
        board.command(0xff);
        assert_eq!(board.leds(), 7);
    }

    #[test]
    fn a_mouse_answers_what_kernels_ask_when_they_probe() {
        assert_eq!(mouse(&[0xff]), [0xfa, 0xaa, 0]);
        assert_eq!(mouse(&[0xf2, 0xe9]), [0xfa, 0, 0xfa, 0, 2, 100]);
        assert_eq!(mouse(&[0xe7, 0xf0, 0xf4, 0xe8, 1, 0xf3, 80, 0xe9])[7..], [0xfa, 0x70, 1, 80]);
        assert_eq!(mouse(&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2])[6..], [0xfa, 3]);
        let five_buttons = [0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2, 0xeb];
        assert_eq!(mouse(&five_buttons)[12..], [0xfa, 4, 0xfa, 8, 0, 0, 0]);
        assert_eq!(mouse(&[0xe1]), []);
    }

    #[test]
    fn a_mouse_in_wrap_mode_echoes_until_it_is_told_to_stop() {
        assert_eq!(mouse(&[0xee, 0x12, 0xf2, 0xec, 0xf2]), [0xfa, 0x12, 0xf2, 0xfa, 0xfa, 0]);
        assert_eq!(mouse(&[0xee, 0xff, 0xf2]), [0xfa, 0xfa, 0xaa, 0, 0xfa, 0]);
    }

    #[test]
    fn answers_that_nobody_reads_do_not_pile_up() {
        let mut mouse = Mouse::default();
        (0..1000).for_each(|_| assert!(!mouse.command(0xe9)));
        assert_eq!(std::iter::from_fn(|| mouse.queue.take()).count(), ROOM);
    }
}
