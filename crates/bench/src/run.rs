//! One run: which figures are wanted, their races, and what becomes of the results.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::calm;
use crate::error::BenchError;
use crate::limits::{self, NOISY, OFF, RAW, Unit};
use crate::measure::{Contender, Plan, Race, Track, median_of_ratios, race, ratio};
use crate::report::{Check, Line, Missing, Report, Stray};

/// A run is over in a minute and a half, whatever others do to the machine.
const MOST_TIME: Duration = Duration::from_secs(80);

/// The state of a run.
pub struct Run {
    only: Option<String>,
    /// If this is not the first time: those that are measured again.
    again: Option<BTreeSet<String>>,
    list: bool,
    started: Instant,
    terminal: bool,
    print: bool,
    /// What came out so far.
    pub report: Report,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("only", &self.only).field("list", &self.list).finish_non_exhaustive()
    }
}

impl Run {
    /// A run of all figures, or of those whose name contains `only`; with `list` only their names are printed.
    #[must_use]
    pub fn new(only: Option<String>, list: bool) -> Self {
        if !list {
            calm::learn();
        }
        Self {
            only,
            again: None,
            list,
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            print: true,
            report: Report::default(),
        }
    }

    /// The same without printing, for tests.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { print: false, terminal: false, ..self }
    }

    fn is_chosen(&self, figure: &str) -> bool {
        self.only.as_ref().is_none_or(|only| figure.contains(only.as_str()))
            && self.again.as_ref().is_none_or(|again| again.contains(figure))
    }

    /// Whether a figure is to be measured. Says on a terminal that it is.
    pub fn wants(&mut self, figure: &str) -> bool {
        if !self.is_chosen(figure) {
            return false;
        }
        if self.list {
            if self.print {
                let _ = writeln!(std::io::stdout(), "{figure}");
            }
            return false;
        }
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{:3} s  {figure} ", self.started.elapsed().as_secs());
        }
        true
    }

    /// Whether any figure of these is wanted; asked before an expensive map is built for them. In a list, all are.
    pub fn wants_any(&mut self, figures: &[String]) -> bool {
        let mut any = false;
        for figure in figures {
            any |= self.list && self.wants(figure) || !self.list && self.is_chosen(figure);
        }
        any && !self.list
    }

    /// Measures what `all` measures and then, as long as the time suffices, once more what was too noisy: others leave the machine
    /// alone at one time and not at another. What was quiet enough to tell stays as it came out.
    ///
    /// # Errors
    /// Those of `all`.
    pub fn until_quiet(
        &mut self,
        all: impl Fn(&mut Self) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        loop {
            let began = Instant::now();
            all(self)?;
            let noisy: BTreeSet<String> =
                self.report.noisy.iter().map(|(figure, _)| figure.clone()).collect();
            if noisy.is_empty() || self.started.elapsed() + began.elapsed() > MOST_TIME {
                return Ok(());
            }
            self.report.noisy.clear();
            self.say(&format!("again, because they were too noisy: {} figures", noisy.len()));
            self.report.lines.retain(|line| !noisy.contains(&line.figure));
            self.report.strays.retain(|stray| !noisy.contains(&stray.figure));
            self.again = Some(noisy);
        }
    }

    /// Says of a figure that it cannot be measured.
    pub fn missing(&mut self, figure: &str, why: &'static str) {
        if self.wants(figure) {
            self.say(&format!("{figure:<40} {why}"));
            self.report.missing.push(Missing { figure: figure.into(), why });
        }
    }

    fn say(&self, line: &str) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        if self.print {
            // A reader that went away (`| head`) is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// Lets contenders race and adds a line for each. One of them must be [`RAW`]: its spread says how noisy it was.
    ///
    /// `bases` says whom a contender is compared with; the others are compared with the raw pointer.
    ///
    /// # Errors
    /// [`BenchError::Disagree`] if their results differ.
    pub fn race(
        &mut self,
        figure: &str,
        mut contenders: Vec<Contender<'_>>,
        bases: &[(&str, &str)],
        plan: Plan,
    ) -> Result<(), BenchError> {
        agreed(figure, &mut contenders)?;
        let race = race(&mut contenders, plan);
        self.tracks(figure, &race, bases)
    }

    /// The same with several sets of the same contenders, a part of the rounds with each: what their memory shares the caches with
    /// differs by where it is in the machine's.
    ///
    /// # Errors
    /// As for [`race`](Self::race).
    pub fn races(
        &mut self,
        figure: &str,
        sets: Vec<Vec<Contender<'_>>>,
        bases: &[(&str, &str)],
        plan: Plan,
    ) -> Result<(), BenchError> {
        let plan = Plan { rounds: plan.rounds.div_ceil(sets.len().max(1)), ..plan };
        let mut all: Option<Race> = None;
        for mut contenders in sets {
            agreed(figure, &mut contenders)?;
            let race = race(&mut contenders, plan);
            match &mut all {
                None => all = Some(race),
                Some(all) => {
                    all.calm &= race.calm;
                    for (track, more) in all.tracks.iter_mut().zip(race.tracks) {
                        // Each set is at a place of its own.
                        let next = track.places.iter().max().map_or(0, |last| last + 1);
                        track.ns.extend(more.ns);
                        track.places.extend(more.places.iter().map(|place| next + place));
                    }
                }
            }
        }
        match all {
            Some(race) => self.tracks(figure, &race, bases),
            None => Ok(()),
        }
    }

    /// Adds a line for each track of a race.
    ///
    /// # Errors
    /// [`BenchError::NoContender`]
    pub fn tracks(&mut self, figure: &str, race: &Race, bases: &[(&str, &str)]) -> Result<(), BenchError> {
        let tracks = &race.tracks;
        let find = |name: &str| {
            let missing = || BenchError::NoContender { figure: figure.into(), contender: name.into() };
            tracks.iter().find(|t| t.name == name).ok_or_else(missing)
        };
        // Of what is compared with a limit neither side may be here and there: others that use the caches are no noise to a raw pointer.
        let limited = |track: &&Track| {
            limits::of(figure, track.name).next().is_some()
                || limits::bases(figure).any(|base| base == track.name)
        };
        let quiet = is_quiet(race) && tracks.iter().filter(limited).all(|track| track.spread() <= NOISY);
        let mut uncertain = false;
        for track in tracks {
            let base = bases.iter().find(|(who, _)| *who == track.name).map_or(RAW, |(_, base)| *base);
            let against = (base != track.name).then(|| find(base)).transpose()?;
            let mut checks = Vec::new();
            for limit in limits::of(figure, track.name) {
                let value = match limit.base {
                    Some(base) => ratio(track, find(base)?),
                    None => track.median(),
                };
                checks.push(Check { limit, value, quiet });
            }
            uncertain |= checks.iter().any(|c| !c.is_certain());
            let ratio = against.map(|b| (base.to_owned(), ratio(track, b)));
            let spread = Some(track.spread());
            self.line(Line {
                figure: figure.into(),
                contender: track.name.into(),
                value: track.median(),
                unit: Unit::Ns,
                spread,
                ratio,
                checks,
            });
        }
        for reference in limits::references(figure) {
            let now = ratio(find(reference.contender)?, find(reference.base)?);
            self.report.referred.insert((figure.to_owned(), reference.contender));
            let (low, high) = reference.seen;
            if quiet && !(low / OFF..=high * OFF).contains(&now) {
                self.report.strays.push(Stray {
                    figure: figure.into(),
                    contender: reference.contender,
                    ratio: now,
                    seen: reference.seen,
                });
            }
        }
        if uncertain {
            self.noisy(figure, race);
        }
        Ok(())
    }

    /// Adds a line for each contender that ran on two threads: its time there, and how many times slower it is than
    /// alone. What has a limit is how many times more it slowed down than the raw pointer.
    ///
    /// # Errors
    /// [`BenchError::NoContender`]
    pub fn slowdowns(&mut self, figure: &str, race: &Race, slower: &[Track]) -> Result<(), BenchError> {
        let missing = || BenchError::NoContender { figure: figure.into(), contender: RAW.into() };
        let raw = slower.iter().find(|t| t.name == RAW).ok_or_else(missing)?;
        let quiet = is_quiet(race);
        for (both, slower) in race.tracks.iter().zip(slower) {
            let checks = limits::of(figure, both.name);
            let checks = checks
                .map(|limit| Check { limit, value: median_of_ratios(&slower.ns, &raw.ns), quiet })
                .collect();
            self.line(Line {
                figure: figure.into(),
                contender: both.name.into(),
                value: both.median(),
                unit: Unit::Ns,
                spread: Some(both.spread()),
                ratio: Some(("alone".into(), slower.median())),
                checks,
            });
        }
        if !quiet && limits::of(figure, limits::OURS).next().is_some() {
            self.noisy(figure, race);
        }
        Ok(())
    }

    /// Adds a value that is no race's, with its limits; `base` is whom it is compared with, and that one's value.
    /// `quiet` says whether it was quiet enough to tell.
    pub fn value(&mut self, figure: &str, value: f64, unit: Unit, base: Option<(&str, f64)>, quiet: bool) {
        let contender = limits::OURS;
        let in_terms = |limit: &'static limits::Limit| match (limit.base, base) {
            (Some(_), Some((_, of))) => value / of,
            _ => value,
        };
        let check = |limit| Check { limit, value: in_terms(limit), quiet };
        let checks: Vec<Check> = limits::of(figure, contender).map(check).collect();
        if checks.iter().any(|c| !c.is_certain()) {
            self.report.noisy.push((figure.into(), "the machine was not calm".into()));
        }
        let ratio = base.map(|(name, of)| (name.to_owned(), value / of));
        let (figure, contender) = (figure.into(), contender.into());
        self.line(Line { figure, contender, value, unit, spread: None, ratio, checks });
    }

    /// Adds operations a second that are no race's, by round, with their limits; `base` is whom they are compared with.
    pub fn speed(
        &mut self,
        figure: &str,
        contender: &'static str,
        speeds: &[f64],
        base: Option<(&'static str, &[f64])>,
        quiet: bool,
    ) {
        let ours = Track { name: contender, ns: speeds.to_vec(), places: vec![0; speeds.len()] };
        let value = ours.median();
        let checks: Vec<Check> =
            limits::of(figure, contender).map(|limit| Check { limit, value, quiet }).collect();
        if checks.iter().any(|c| !c.is_certain()) {
            self.report.noisy.push((figure.into(), "the machine was not calm".into()));
        }
        let ratio = base.map(|(name, base)| (name.to_owned(), median_of_ratios(speeds, base)));
        self.line(Line {
            figure: figure.into(),
            contender: contender.into(),
            value,
            unit: Unit::PerSecond,
            spread: Some(ours.spread()),
            ratio,
            checks,
        });
    }

    fn noisy(&mut self, figure: &str, race: &Race) {
        let widest = race.tracks.iter().max_by(|a, b| a.spread().total_cmp(&b.spread()));
        let why = if let Some(track) = widest.filter(|_| race.calm) {
            format!("the quartiles of {}'s batches are {:.0} % apart", track.name, track.spread() * 100.0)
        } else {
            "too few rounds were undisturbed".into()
        };
        self.report.noisy.push((figure.into(), why));
    }

    fn line(&mut self, line: Line) {
        self.say(&line.to_string());
        self.report.lines.push(line);
    }
}

/// The spread of the raw pointer's batches.
fn noise(tracks: &[Track]) -> f64 {
    tracks.iter().find(|t| t.name == RAW).map_or(0.0, Track::spread)
}

fn is_quiet(race: &Race) -> bool {
    race.calm && noise(&race.tracks) <= NOISY
}

/// Compares what the contenders compute, which also warms them up.
fn agreed(figure: &str, contenders: &mut [Contender<'_>]) -> Result<(), BenchError> {
    const OPS: u64 = 1000;
    let mut first: Option<(&'static str, u64)> = None;
    for contender in contenders.iter_mut().filter(|c| c.agrees) {
        let got = (contender.batch)(OPS, 12345);
        match first {
            None => first = Some((contender.name, got)),
            Some((one, a)) if a != got => {
                return Err(BenchError::Disagree {
                    figure: figure.into(),
                    one,
                    other: contender.name,
                    a,
                    b: got,
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_noisy_is_measured_again_and_the_rest_is_not() {
        let mut run = Run::new(None, false).silent();
        let (noisy, measured) = (std::cell::Cell::new(2), std::cell::RefCell::new(Vec::new()));
        let all = |run: &mut Run| {
            for figure in ["load/random/10000", "latency/p99.9"] {
                if run.wants(figure) {
                    measured.borrow_mut().push(figure);
                    let quiet = figure == "load/random/10000" || noisy.replace(noisy.get() - 1) == 0;
                    run.value(figure, 1.0, Unit::Ns, Some(("quiet", 1.0)), quiet);
                }
            }
            Ok(())
        };
        run.until_quiet(all).unwrap();
        assert_eq!(
            *measured.borrow(),
            ["load/random/10000", "latency/p99.9", "latency/p99.9", "latency/p99.9"]
        );
        assert_eq!(run.report.lines.len(), 2);
        assert!(run.report.noisy.is_empty());
    }
}
