//! Where Flatview must stand, and where its peers stood: the one table of limits.
//!
//! `docs/performance.md` shows these tables; a test keeps them equal. The limits are those of the design; raising one
//! is a decision, not a repair.

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds for each operation.
    Ns,
    /// Bytes.
    Bytes,
    /// How often in a second.
    PerSecond,
    /// How many times.
    Times,
}

/// A value in its unit, readable.
#[must_use]
pub fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ns if value >= 1e9 => format!("{:.2} s", value / 1e9),
        Unit::Ns if value >= 1e6 => format!("{:.1} ms", value / 1e6),
        Unit::Ns if value >= 1e4 => format!("{:.1} µs", value / 1e3),
        Unit::Ns => format!("{value:.2} ns"),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::PerSecond if value >= 1e6 => format!("{:.0} M/s", value / 1e6),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Times => format!("{value:.2}×"),
    }
}

/// A limit of one contender of one or several figures.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The figure; a part between slashes that is `*` stands for any.
    pub figure: &'static str,
    /// Whose limit it is.
    pub contender: &'static str,
    /// As a ratio to this contender; `None`: the value itself.
    pub base: Option<&'static str>,
    /// The limit.
    pub limit: f64,
    /// Whether it must be reached, and not kept under.
    pub at_least: bool,
    /// Of the value.
    pub unit: Unit,
}

/// Ours, in the report.
pub const OURS: &str = "flatview";
/// The raw pointer, in the report.
pub const RAW: &str = "raw pointer";
/// The table of trait objects, in the report.
pub const TABLE: &str = "table and dyn call";

const fn ratio(figure: &'static str, base: &'static str, limit: f64) -> Limit {
    Limit { figure, contender: OURS, base: Some(base), limit, at_least: false, unit: Unit::Times }
}

const fn below(figure: &'static str, limit: f64, unit: Unit) -> Limit {
    Limit { figure, contender: OURS, base: None, limit, at_least: false, unit }
}

const fn speed(figure: &'static str, limit: f64) -> Limit {
    Limit { figure, contender: OURS, base: None, limit, at_least: true, unit: Unit::PerSecond }
}

/// The limits.
pub const LIMITS: &[Limit] = &[
    ratio("load/same/8", RAW, 5.0),
    ratio("load/same/8", "vm-memory load", 0.5),
    ratio("load/random/1", RAW, 1.5),
    ratio("load/random/10000", RAW, 3.0),
    ratio("store/same/8", "flatview load", 1.2),
    ratio("dirty/store, one client", "flatview load", 2.0),
    ratio("dirty/store, three clients", "flatview load", 2.0),
    ratio("mmio/*/*/*/*", TABLE, 2.5),
    ratio("threads/load", RAW, 1.15),
    ratio("threads/mmio", RAW, 1.15),
    ratio("read/4096/*", "memcpy", 1.1),
    ratio("read/1048576/*", "memcpy", 1.02),
    below("commit/one/100000", 20_000.0, Unit::Ns),
    ratio("commit/one/100000", "of 100", 3.0),
    ratio("commit/spaces/256 shared", "no other space", 1.2),
    ratio("commit/spaces/32 unshared, unconcerned", "no other space", 1.2),
    ratio("cpiom/protect/*", "of 8", 3.0),
    below("add/100000 regions", 250e6, Unit::Ns),
    below("add/256 spaces", 1e6, Unit::Ns),
    ratio("latency/p99.9", "quiet", 2.0),
    speed("latency/commits", 50_000.0),
    below("memory/region", 200.0, Unit::Bytes),
    below("memory/range/dense", 64.0, Unit::Bytes),
    below("memory/range/1GiB", 256.0, Unit::Bytes),
    // Not 0: how a view is cut into chunks depends on its history.
    below("memory/growth", 4096.0, Unit::Bytes),
    speed("guest/alu", 80e6),
    speed("guest/chase", 40e6),
    speed("guest/copy", 40e6),
    speed("guest/rmw", 40e6),
    speed("guest/mapped", 40e6),
];

/// What a peer took, in raw pointers' time, when it was measured for the design (`reference/rust-peers.md` §5).
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// The figure.
    pub figure: &'static str,
    /// The peer.
    pub contender: &'static str,
    /// What it was compared with.
    pub base: &'static str,
    /// The lowest and the highest ratio that were seen.
    pub seen: (f64, f64),
}

const fn seen(figure: &'static str, contender: &'static str, low: f64, high: f64) -> Reference {
    // The raw pointer took 0.4 ns at least and 0.6 ns in the median: the peer's least in the slower, its median in
    // the faster.
    Reference { figure, contender, base: RAW, seen: (low / 0.6, high / 0.4) }
}

/// A bus with locks: of the three the order was not stable between runs, so all have the range of all, from the
/// lowest with 8 devices to the highest with 128.
const fn bus(figure: &'static str, contender: &'static str) -> Reference {
    seen(figure, contender, 21.0, 59.0)
}

/// A run in which a peer stands farther off than [`OFF`] times is void: it measured something else.
pub const REFERENCES: &[Reference] = &[
    seen("load/same/8", "vm-memory load", 5.7, 6.4),
    seen("load/same/8", "vm-memory read_obj", 47.0, 51.0),
    bus("mmio/mutex/random/8/4KiB", "crosvm"),
    bus("mmio/mutex/random/8/4KiB", "cloud-hypervisor"),
    bus("mmio/mutex/random/8/4KiB", "openvmm"),
    bus("mmio/mutex/random/128/4KiB", "crosvm"),
    bus("mmio/mutex/random/128/4KiB", "cloud-hypervisor"),
    bus("mmio/mutex/random/128/4KiB", "openvmm"),
];

/// How many times farther off than seen.
pub const OFF: f64 = 2.0;

/// A race is too noisy to tell if the batches of its raw pointer have a distance of quartiles above this part of
/// their median, or if too few of its rounds were undisturbed (see [`calm`](crate::calm)).
pub const NOISY: f64 = 0.25;

fn matches(pattern: &str, name: &str) -> bool {
    let (mut p, mut n) = (pattern.split('/'), name.split('/'));
    loop {
        match (p.next(), n.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == "*" || a == b => {}
            _ => return false,
        }
    }
}

/// The limits of a contender of a figure.
pub fn of(figure: &str, contender: &str) -> impl Iterator<Item = &'static Limit> {
    LIMITS.iter().filter(move |l| l.contender == contender && matches(l.figure, figure))
}

/// Whom the limits of a figure compare with.
pub fn bases(figure: &str) -> impl Iterator<Item = &'static str> {
    LIMITS.iter().filter(move |l| matches(l.figure, figure)).filter_map(|l| l.base)
}

/// Where peers stood in a figure.
pub fn references(figure: &str) -> impl Iterator<Item = &'static Reference> {
    REFERENCES.iter().filter(move |r| r.figure == figure)
}

/// The limits as a table of the book.
#[must_use]
pub fn as_markdown() -> String {
    let mut out = String::from("| figure | compared with | limit |\n|---|---|---|\n");
    for l in LIMITS {
        let sign = if l.at_least { "≥" } else { "≤" };
        let line =
            format!("| `{}` | {} | {sign} {} |\n", l.figure, l.base.unwrap_or("—"), shown(l.limit, l.unit));
        out += &line;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_shows_the_limits_that_are_checked() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md");
        let book = std::fs::read_to_string(path).unwrap();
        let (_, rest) =
            book.split_once("<!-- limits -->\n").expect("docs/performance.md marks its table of limits");
        let (table, _) =
            rest.split_once("<!-- /limits -->").expect("docs/performance.md ends its table of limits");
        assert_eq!(
            table.trim(),
            as_markdown().trim(),
            "docs/performance.md has other limits; the right ones are on the right"
        );
    }

    #[test]
    fn a_star_stands_for_one_part_of_a_name() {
        assert!(matches("mmio/*/*/*/*", "mmio/mutex/random/8/4KiB"));
        assert!(!matches("mmio/*/*", "mmio/mutex/random/8/4KiB"));
        assert!(!matches("load/same/8", "load/same/4"));
        assert!(matches("read/4096/*", "read/4096/aligned"));
    }
}
