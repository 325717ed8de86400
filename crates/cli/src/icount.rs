//! `-icount [shift=]N|auto[,sleep=on|off][,align=on|off]`: time that goes with instructions.
//!
//! QEMU's option without record and replay (`rr=`), which is refused. QEMU takes the option without a shift and then does
//! nothing; that is refused too.

use flatview_board::device::Clock;
use flatview_board::{IcountConfig, IcountShift};

/// Reads the option's text; the error is the reason.
pub fn parse(text: &str) -> Result<IcountConfig, String> {
    let (mut shift, mut sleep, mut align) = (None, true, false);
    for (position, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            Some(("shift", value)) => shift = Some(self::shift(value)?),
            Some(("sleep", value)) => sleep = switch("sleep", value)?,
            Some(("align", value)) => align = switch("align", value)?,
            Some(("rr" | "rrfile" | "rrsnapshot", _)) => {
                return Err(
                    "nothing is recorded or replayed here; leave out rr, rrfile and rrsnapshot".to_owned()
                );
            }
            None if position == 0 => shift = Some(self::shift(part)?),
            _ => {
                let key = part.split('=').next().unwrap_or_default();
                return Err(format!("Invalid parameter '{key}'; there are shift, sleep and align"));
            }
        }
    }
    let shift = shift.ok_or("Please specify the shift: shift=N or shift=auto")?;
    if align && !sleep {
        return Err("align=on and sleep=off are incompatible".to_owned());
    }
    Ok(IcountConfig { shift, sleep, align })
}

fn shift(value: &str) -> Result<IcountShift, String> {
    if value == "auto" {
        return Ok(IcountShift::Auto);
    }
    let number = value.parse().ok().filter(|shift| *shift <= Clock::MAX_SHIFT);
    let wrong = || format!("icount: Invalid shift value; it is 0 to {}, or auto", Clock::MAX_SHIFT);
    number.map(IcountShift::Fixed).ok_or_else(wrong)
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("Parameter '{name}' expects 'on' or 'off'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_is_a_number_or_auto() {
        let config = |shift, sleep, align| Ok(IcountConfig { shift, sleep, align });
        for (text, read) in [
            ("3", config(IcountShift::Fixed(3), true, false)),
            ("shift=0", config(IcountShift::Fixed(0), true, false)),
            ("shift=10,sleep=off", config(IcountShift::Fixed(10), false, false)),
            ("auto", config(IcountShift::Auto, true, false)),
            ("align=on,shift=7", config(IcountShift::Fixed(7), true, true)),
        ] {
            assert_eq!(parse(text), read, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("", "Invalid shift value"),
            ("shift=11", "0 to 10, or auto"),
            ("shift=-1", "Invalid shift value"),
            ("sleep=off", "specify the shift"),
            ("3,sleep=yes", "'on' or 'off'"),
            ("3,align=on,sleep=off", "incompatible"),
            ("3,rr=record,rrfile=f", "leave out rr"),
            ("3,foo=1", "Invalid parameter 'foo'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
