//! `-rtc [base=utc|datetime][,clock=host|rt|vm][,driftfix=none]`: the date that clock chips show.
//!
//! QEMU's option without what needs time zones (`base=localtime`) and tick catching (`driftfix=slew`): those are refused.

use flatview_board::device::calendar::{self, DAY};
use flatview_board::{RtcClock, RtcConfig};

/// Reads the option's text; the error is the reason.
pub fn parse(text: &str) -> Result<RtcConfig, String> {
    let mut rtc = RtcConfig::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("base", "utc")) => rtc.base = None,
            Some(("base", "localtime")) => {
                return Err("the host's time zone is not known here; give utc, or the date itself".to_owned());
            }
            Some(("base", date)) => rtc.base = Some(seconds(date).ok_or_else(wrong_date)?),
            Some(("clock", "vm")) => rtc.clock = RtcClock::Machine,
            Some(("clock", "host" | "rt")) => rtc.clock = RtcClock::Host,
            Some(("clock", other)) => {
                return Err(format!("invalid clock '{other}'; there are host, rt and vm"));
            }
            Some(("driftfix", "none")) => {}
            Some(("driftfix", _)) => {
                return Err("lost ticks are not made up for; driftfix is none".to_owned());
            }
            _ => {
                let key = part.split('=').next().unwrap_or_default();
                return Err(format!("Invalid parameter '{key}'; there are base, clock and driftfix"));
            }
        }
    }
    Ok(rtc)
}

fn wrong_date() -> String {
    "invalid datetime format; valid formats: 2006-06-17T16:01:21 or 2006-06-17".to_owned()
}

/// Seconds since 1970 of a date with or without a time of day.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let fits = (1970..=2200).contains(&year) && hour < 24 && minute < 60 && second < 60;
    let days = calendar::days(year, month, day);
    (fits && calendar::civil(days) == (year, month, day))
        .then_some(days * DAY + hour * 3600 + minute * 60 + second)
}

/// Three decimal numbers of at most four digits.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let digits = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.split(separator).map(|part| digits(part).then(|| part.parse().ok()).flatten());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_date_with_or_without_a_time() {
        for (text, base) in [
            ("base=1970-01-01", Some(0)),
            ("base=2026-11-22T16:05:06", Some(1_795_363_506)),
            ("base=2026-11-22,base=utc", None),
            ("", None),
        ] {
            assert_eq!(parse(text), Ok(RtcConfig { base, clock: RtcClock::Usual }), "{text}");
        }
        assert_eq!(parse("clock=vm,driftfix=none"), Ok(RtcConfig { base: None, clock: RtcClock::Machine }));
    }

    #[test]
    fn what_is_no_date_or_not_there_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("base=2026-02-29", "2006-06-17T16:01:21"),
            ("base=2026-13-01", "2006-06-17"),
            ("base=2026-11-22T24:00:00", "2006-06-17"),
            ("base=2026-11-22-3", "2006-06-17"),
            ("base=2026-11-+1", "2006-06-17"),
            ("base=yesterday", "2006-06-17"),
            ("base=localtime", "utc"),
            ("clock=sun", "host, rt and vm"),
            ("driftfix=slew", "none"),
            ("bass=utc", "Invalid parameter 'bass'; there are base"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
