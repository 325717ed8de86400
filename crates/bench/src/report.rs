//! What came out: lines, verdicts, JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::limits::{Limit, OFF, RAW, REFERENCES, Unit, shown};

/// One value compared with one limit.
#[derive(Debug, Clone)]
pub struct Check {
    /// The limit.
    pub limit: &'static Limit,
    /// What was measured, in the limit's terms.
    pub value: f64,
    /// Whether the race was quiet enough to tell.
    pub quiet: bool,
}

impl Check {
    /// Whether the limit is kept.
    #[must_use]
    pub fn kept(&self) -> bool {
        if self.limit.at_least { self.value >= self.limit.limit } else { self.value <= self.limit.limit }
    }

    /// Whether it can be told: in noise, only that an absolute limit is kept, since noise makes nothing quicker.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.quiet || self.limit.base.is_none() && self.kept()
    }
}

/// One contender of one figure.
#[derive(Debug, Clone)]
pub struct Line {
    /// The figure.
    pub figure: String,
    /// The contender.
    pub contender: String,
    /// The median.
    pub value: f64,
    /// Of the value.
    pub unit: Unit,
    /// Distance of the quartiles, as a part of the median.
    pub spread: Option<f64>,
    /// Whom it is compared with, and the median of the ratios.
    pub ratio: Option<(String, f64)>,
    /// The limits that it has.
    pub checks: Vec<Check>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<40} {:<22} {:>12}", self.figure, self.contender, shown(self.value, self.unit))?;
        match self.spread {
            Some(spread) => write!(f, "  ±{:>3.0} %", spread * 50.0)?,
            None => write!(f, "        ")?,
        }
        if let Some((base, ratio)) = &self.ratio {
            write!(f, "  {ratio:>8.2} × {base}")?;
        }
        for check in &self.checks {
            let verdict = match (check.kept(), check.quiet) {
                (true, true) => "ok",
                (true, false) if check.is_certain() => "ok",
                (true, false) => "ok, but noisy",
                (false, true) => "FALLS SHORT",
                (false, false) => "noisy",
            };
            let sign = if check.limit.at_least { "≥" } else { "≤" };
            let (limit, value) = (check.limit.limit, check.value);
            match check.limit.base {
                Some(base) => write!(f, "  [{value:.2} {sign} {limit} × {base}: {verdict}]")?,
                None => write!(f, "  [{sign} {}: {verdict}]", shown(limit, check.limit.unit))?,
            }
        }
        Ok(())
    }
}

/// A figure that cannot be measured, and why.
#[derive(Debug, Clone)]
pub struct Missing {
    /// The figure.
    pub figure: String,
    /// Why.
    pub why: &'static str,
}

/// A peer that stands where it did not stand before.
#[derive(Debug, Clone)]
pub struct Stray {
    /// The figure.
    pub figure: String,
    /// The peer.
    pub contender: &'static str,
    /// Its ratio to the raw pointer now.
    pub ratio: f64,
    /// And then.
    pub seen: (f64, f64),
}

/// Everything that came out.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of measurement.
    pub lines: Vec<Line>,
    /// What is not there to be measured.
    pub missing: Vec<Missing>,
    /// Peers off their references.
    pub strays: Vec<Stray>,
    /// Figures that were too noisy, and why that is known.
    pub noisy: Vec<(String, String)>,
    /// What was compared with references: figure and peer.
    pub referred: BTreeSet<(String, &'static str)>,
}

/// What a check says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All limits are kept, in quiet.
    Pass,
    /// A figure falls short, in quiet.
    FallsShort,
    /// The machine was too noisy, or measured peers to be what they are not.
    CannotTell,
}

impl Report {
    /// What the check says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut checks = self.lines.iter().flat_map(|l| &l.checks).peekable();
        if !self.strays.is_empty() || checks.peek().is_none() {
            Verdict::CannotTell
        } else if checks.any(|c| c.quiet && !c.kept()) {
            Verdict::FallsShort
        } else if !self.noisy.is_empty() {
            Verdict::CannotTell
        } else {
            Verdict::Pass
        }
    }

    /// The end of the report: what the check says, and why.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let checks = self.lines.iter().map(|l| l.checks.len()).sum::<usize>();
        let short: Vec<_> =
            self.lines.iter().filter(|l| l.checks.iter().any(|c| !c.kept() && c.quiet)).collect();
        for line in &short {
            let _ = writeln!(out, "FALLS SHORT: {line}");
        }
        for (figure, why) in &self.noisy {
            let _ = writeln!(out, "TOO NOISY: {figure}: {why}");
        }
        for s in &self.strays {
            let _ = writeln!(
                out,
                "VOID: {}: {} takes {:.1} raw pointers; it took {:.1} to {:.1}, and {OFF} times that is the most it may be off",
                s.figure, s.contender, s.ratio, s.seen.0, s.seen.1
            );
        }
        let _ = match self.verdict() {
            Verdict::Pass => writeln!(out, "check: pass, {checks} limits kept"),
            Verdict::FallsShort => writeln!(
                out,
                "check: {} of {} figures with limits fall short",
                short.len(),
                self.lines.iter().filter(|l| !l.checks.is_empty()).count()
            ),
            Verdict::CannotTell if checks == 0 => writeln!(out, "check: nothing with a limit was measured"),
            Verdict::CannotTell if !self.strays.is_empty() => {
                writeln!(out, "check: void, the peers are not what they were; this run proves nothing")
            }
            Verdict::CannotTell => writeln!(
                out,
                "check: cannot tell, {} figures were too noisy; run it again on a quiet machine",
                self.noisy.len()
            ),
        };
        if self.referred.len() < REFERENCES.len() {
            let _ = writeln!(
                out,
                "(of {} peers' figures that this check is tied to, {} were measured)",
                REFERENCES.len(),
                self.referred.len()
            );
        }
        out
    }

    /// Everything, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let unit = |u: Unit| match u {
            Unit::Ns => "ns",
            Unit::Bytes => "bytes",
            Unit::PerSecond => "per second",
            Unit::Times => "times",
        };
        let check = |c: &Check| {
            json!({
                "base": c.limit.base, "value": c.value, "limit": c.limit.limit, "unit": unit(c.limit.unit),
                "at_least": c.limit.at_least, "kept": c.kept(), "quiet": c.quiet,
            })
        };
        let line = |l: &Line| {
            json!({
                "figure": l.figure, "contender": l.contender, "value": l.value, "unit": unit(l.unit),
                "spread": l.spread,
                "ratio": l.ratio.as_ref().map(|(base, ratio)| json!({"base": base, "value": ratio})),
                "checks": l.checks.iter().map(check).collect::<Vec<_>>(),
            })
        };
        let missing = |m: &Missing| json!({"figure": m.figure, "why": m.why});
        let stray = |s: &Stray| json!({"figure": s.figure, "contender": s.contender, "ratio": s.ratio, "base": RAW, "seen": [s.seen.0, s.seen.1]});
        json!({
            "version": 1,
            "verdict": match self.verdict() {
                Verdict::Pass => "pass",
                Verdict::FallsShort => "falls short",
                Verdict::CannotTell => "cannot tell",
            },
            "figures": self.lines.iter().map(line).collect::<Vec<_>>(),
            "not_in_the_library_yet": self.missing.iter().map(missing).collect::<Vec<_>>(),
            "void": self.strays.iter().map(stray).collect::<Vec<_>>(),
            "noisy": self.noisy.iter().map(|(f, s)| json!({"figure": f, "why": s})).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LIMITS, OURS};

    fn report(value: f64, quiet: bool) -> Report {
        let limit = &LIMITS[0];
        let checks = vec![Check { limit, value, quiet }];
        let line = Line {
            figure: limit.figure.into(),
            contender: OURS.into(),
            value,
            unit: Unit::Ns,
            spread: None,
            ratio: None,
            checks,
        };
        let noisy = if quiet { vec![] } else { vec![("x".into(), "a reason".into())] };
        Report { lines: vec![line], noisy, ..Report::default() }
    }

    #[test]
    fn noise_is_neither_a_pass_nor_a_failure() {
        assert_eq!(report(1.0, true).verdict(), Verdict::Pass);
        assert_eq!(report(1e9, true).verdict(), Verdict::FallsShort);
        assert_eq!(report(1.0, false).verdict(), Verdict::CannotTell);
        assert_eq!(report(1e9, false).verdict(), Verdict::CannotTell);
        assert_eq!(Report::default().verdict(), Verdict::CannotTell);
    }

    #[test]
    fn noise_does_not_make_quicker_so_an_absolute_limit_that_is_kept_is_kept() {
        let limit = LIMITS.iter().find(|l| l.base.is_none() && l.at_least).unwrap();
        let check = |value, quiet| Check { limit, value, quiet };
        assert!(check(limit.limit, false).is_certain());
        assert!(!check(limit.limit - 1.0, false).is_certain());
        assert!(check(limit.limit - 1.0, true).is_certain());
        let ratio = LIMITS.iter().find(|l| l.base.is_some()).unwrap();
        assert!(!Check { limit: ratio, value: 0.0, quiet: false }.is_certain(), "either side may be slower");
    }

    #[test]
    fn a_run_with_peers_off_their_references_is_void() {
        let mut r = report(1.0, true);
        r.strays.push(Stray {
            figure: "x".into(),
            contender: "vm-memory load",
            ratio: 99.0,
            seen: (1.0, 2.0),
        });
        assert_eq!(r.verdict(), Verdict::CannotTell);
        assert!(r.summary().contains("VOID: x: vm-memory load takes 99.0"));
    }

    #[test]
    fn what_falls_short_is_named() {
        assert!(report(1e9, true).summary().contains("FALLS SHORT: load/same/8"));
    }
}
