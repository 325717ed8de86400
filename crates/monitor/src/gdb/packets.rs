//! Packets that the session answers itself, or says in other words: QEMU's own, old ones, and those that could not be what
//! they seem.

use super::target::sstep;
use std::num::NonZeroUsize;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// It goes to the stub, perhaps in other words.
    Stub(Vec<u8>),
    /// It goes on: from an address, if one is given; these words are the stub's.
    GoOn(Option<u64>, &'static str),
    /// It is a question of what the target can do.
    Supported(Vec<u8>),
    /// It has this answer.
    Answer(String),
    /// The thread for steps and continues is this one, or any; the stub is told too.
    Thread(NonZeroUsize),
    /// Which thread is current?
    Current,
    /// No more acknowledgements.
    NoAcks,
    /// How are single steps done?
    StepBits,
    /// This is how single steps are done.
    SetStepBits(u32),
    /// Are addresses physical?
    Physical,
    /// They are, or not.
    SetPhysical(bool),
    /// Why does it stand? Asked by who has just come.
    Why,
    /// Reset, without an answer.
    Restart,
    /// Reset, and stop before the first instruction.
    Run,
    /// End the machine; answered if it is the newer packet.
    Kill { answered: bool },
}

/// Invalid argument, as an answer.
pub(super) const INVALID: &str = "E22";

/// Reads a packet's body.
pub(super) fn read(body: &[u8]) -> Packet {
    let stub = || Packet::Stub(body.to_vec());
    // The rest are commands whose data may be binary; these are not.
    let Ok(text) = std::str::from_utf8(body) else { return stub() };
    match text {
        "!" => return answer("OK"),
        "?" => return Packet::Why,
        "k" => return Packet::Kill { answered: false },
        "qC" => return Packet::Current,
        "QStartNoAckMode" => return Packet::NoAcks,
        "qqemu.sstepbits" | "qemu.sstepbits" => {
            let (e, i, t) = (sstep::ENABLE, sstep::NOIRQ, sstep::NOTIMER);
            return Packet::Answer(format!("ENABLE={e:x},NOIRQ={i:x},NOTIMER={t:x}"));
        }
        "qqemu.sstep" | "qemu.sstep" => return Packet::StepBits,
        "qqemu.PhyMemMode" => return Packet::Physical,
        _ => {}
    }
    if let Some(bits) = text.strip_prefix("Qqemu.sstep=").or(text.strip_prefix("qemu.sstep=")) {
        return match number(bits).and_then(|bits| u32::try_from(bits).ok()) {
            Some(bits) if bits & !sstep::ALL == 0 => Packet::SetStepBits(bits),
            _ => answer(INVALID),
        };
    }
    if let Some(mode) = text.strip_prefix("Qqemu.PhyMemMode:") {
        return number(mode).map_or(answer(INVALID), |mode| Packet::SetPhysical(mode != 0));
    }
    if text.starts_with("vKill") {
        return Packet::Kill { answered: true };
    }
    if text.starts_with("vRun") {
        return Packet::Run;
    }
    if text.starts_with("vAttach") {
        return Packet::Why;
    }
    if let Some(features) = text.strip_prefix("qSupported") {
        // The stub takes no empty ones.
        let features: Vec<&str> =
            features.trim_start_matches(':').split(';').filter(|f| !f.is_empty()).collect();
        let features = if features.is_empty() { "none-".to_owned() } else { features.join(";") };
        return Packet::Supported(format!("qSupported:{features}").into_bytes());
    }
    if let Some(thread) = text.strip_prefix("Hc") {
        let thread = thread.rsplit('.').next().and_then(number).unwrap_or(0);
        let thread = usize::try_from(thread).ok().and_then(NonZeroUsize::new);
        return Packet::Thread(thread.unwrap_or(NonZeroUsize::MIN));
    }
    let Some((first, rest)) = text.split_at_checked(1) else { return stub() };
    match first {
        // An offset is added to the address, which must not overflow; answers fit a packet.
        "m" => match rest.split_once(',').and_then(|(at, len)| number(at)?.checked_add(number(len)?)) {
            Some(_) if rest.split_once(',').and_then(|(_, len)| number(len)) > Some(MOST_READ) => {
                answer(INVALID)
            }
            Some(_) => stub(),
            None => answer(INVALID),
        },
        "c" => go_on(rest, "c"),
        "s" => go_on(rest, "s"),
        "C" => go_on(rest.split_once(';').map_or("", |(_, at)| at), "c"),
        "S" => go_on(rest.split_once(';').map_or("", |(_, at)| at), "s"),
        "R" => Packet::Restart,
        _ if text == "vCont;s" => Packet::GoOn(None, "s"),
        _ => stub(),
    }
}

/// Bytes that one packet reads at most.
const MOST_READ: u64 = super::frame::MOST as u64 / 2;

fn answer(text: &str) -> Packet {
    Packet::Answer(text.to_owned())
}

fn go_on(at: &str, how: &'static str) -> Packet {
    match at {
        "" => Packet::GoOn(None, how),
        at => number(at).map_or(answer(INVALID), |at| Packet::GoOn(Some(at), how)),
    }
}

fn number(text: &str) -> Option<u64> {
    // No sign, which the standard library would take.
    text.chars().all(|c| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_qemus_and_old_ones_are_understood() {
        let stub = |text: &str| Packet::Stub(text.as_bytes().to_vec());
        let supported = |text: &str| Packet::Supported(text.as_bytes().to_vec());
        for (text, packet) in [
            ("qqemu.sstepbits", answer("ENABLE=1,NOIRQ=2,NOTIMER=4")),
            ("Qqemu.sstep=5", Packet::SetStepBits(5)),
            ("Qqemu.sstep=8", answer("E22")),
            ("Qqemu.PhyMemMode:1", Packet::SetPhysical(true)),
            ("qSupported", supported("qSupported:none-")),
            ("qSupported:;;a+;", supported("qSupported:a+")),
            ("c", Packet::GoOn(None, "c")),
            ("c80001000", Packet::GoOn(Some(0x8000_1000), "c")),
            ("S05;10", Packet::GoOn(Some(0x10), "s")),
            ("C05", Packet::GoOn(None, "c")),
            ("cxyz", answer("E22")),
            ("vCont;s", Packet::GoOn(None, "s")),
            ("vCont;s:1", stub("vCont;s:1")),
            ("Hcp1.2", Packet::Thread(NonZeroUsize::new(2).unwrap())),
            ("Hc-1", Packet::Thread(NonZeroUsize::MIN)),
            ("R00", Packet::Restart),
            ("m80000000,10", stub("m80000000,10")),
            ("mffffffffffffffff,1", answer("E22")),
            ("m0,ffffffff", answer("E22")),
            ("m+1,+1", answer("E22")),
            ("m80000000", answer("E22")),
            ("", stub("")),
            ("é", stub("é")),
        ] {
            assert_eq!(read(text.as_bytes()), packet, "{text}");
        }
    }
}
