//! Packets on the wire: `$`, the body, `#` and two digits of its sum.
//!
//! Only the frame; bodies stay escaped as they came. What must always hold: at most [`MOST`] bytes of a body are kept,
//! whatever is sent.

/// Bytes of the longest packet, with its frame; debuggers are told.
pub(super) const MOST: usize = 0x4000;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A packet's body.
    Packet(Vec<u8>),
    /// Ctrl-C, between packets.
    Interrupt,
    /// It did not get the last packet.
    Resend,
    /// A packet whose sum is wrong.
    Broken,
    /// A packet that is too long.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    Body,
    /// The first digit of the sum is next.
    High,
    Low(u8),
}

/// Puts packets together from bytes.
#[derive(Debug, Default)]
pub(super) struct Framer {
    state: State,
    body: Vec<u8>,
    sum: u8,
    too_long: bool,
}

impl Framer {
    /// Takes a byte; what it completes, if anything.
    pub fn push(&mut self, byte: u8) -> Option<Input> {
        match (self.state, byte) {
            (State::Idle, b'$') => self.begin(),
            (State::Idle, 0x03) => return Some(Input::Interrupt),
            (State::Idle, b'-') => return Some(Input::Resend),
            // Acknowledgements; noise before a packet.
            (State::Idle, _) => {}
            // It is escaped in a body: a packet was cut off, and this is the next.
            (State::Body, b'$') => self.begin(),
            (State::Body, b'#') => self.state = State::High,
            (State::Body, _) => {
                self.sum = self.sum.wrapping_add(byte);
                if self.body.len() < MOST - 4 {
                    self.body.push(byte);
                } else {
                    self.too_long = true;
                }
            }
            (State::High, _) => match digit(byte) {
                Some(high) => self.state = State::Low(high),
                None => return Some(self.broken()),
            },
            (State::Low(high), _) => {
                if digit(byte).map(|low| high << 4 | low) != Some(self.sum) {
                    return Some(self.broken());
                }
                self.state = State::Idle;
                if self.too_long {
                    return Some(Input::TooLong);
                }
                return Some(Input::Packet(std::mem::take(&mut self.body)));
            }
        }
        None
    }

    fn begin(&mut self) {
        *self = Self { state: State::Body, ..Self::default() };
    }

    fn broken(&mut self) -> Input {
        self.state = State::Idle;
        Input::Broken
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A packet with this body, which must need no escapes.
pub(super) fn packet(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let mut packet = Vec::with_capacity(body.len() + 4);
    packet.push(b'$');
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{sum:02x}").as_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(bytes: &[u8]) -> Vec<Input> {
        let mut framer = Framer::default();
        bytes.iter().filter_map(|byte| framer.push(*byte)).collect()
    }

    #[test]
    fn packets_are_found_among_acknowledgements_and_noise() {
        let found = inputs(b"+xx$g#67+\x03-$OK#9a");
        let packet = |body: &[u8]| Input::Packet(body.to_vec());
        assert_eq!(found, [packet(b"g"), Input::Interrupt, Input::Resend, packet(b"OK")]);
        assert_eq!(inputs(&super::packet(b"qC")), [packet(b"qC")]);
    }

    #[test]
    fn what_is_broken_is_told_and_the_next_packet_is_found() {
        let good = Input::Packet(b"g".to_vec());
        assert_eq!(inputs(b"$g#68$g#67"), [Input::Broken, good.clone()]);
        assert_eq!(inputs(b"$g#zz$g#67"), [Input::Broken, good.clone()]);
        assert_eq!(inputs(b"$m800$g#67"), std::slice::from_ref(&good), "one that was cut off");
        let long = packet(&vec![b'x'; MOST]);
        assert_eq!(inputs(&[long, b"$g#67".to_vec()].concat()), [Input::TooLong, good]);
    }
}
