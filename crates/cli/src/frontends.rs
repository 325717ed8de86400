//! Which front end and which serial port goes where: QEMU's defaults, applied to the options.
//!
//! Pure: nothing is opened here.

use crate::options::Options;
use flatview_board::device::{CharError, CharSpec};
use flatview_monitor::gdb;
use thiserror::Error;

/// A language on a back end, or a serial port on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// What to put before an error: `-serial tcp:…`.
    pub origin: String,
    /// The back end.
    pub spec: CharSpec,
}

impl Wire {
    fn default_to(origin: &str, spec: CharSpec) -> Self {
        Self { origin: origin.to_owned(), spec }
    }

    /// Whether somebody can come by another way than standard input.
    pub fn is_reachable(&self) -> bool {
        matches!(self.spec, CharSpec::Tcp { .. } | CharSpec::Unix { .. } | CharSpec::Pty)
    }

    fn uses_stdio(&self) -> bool {
        matches!(self.spec, CharSpec::Stdio { .. })
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrontEnds {
    /// Serial ports, in order. At most one is on `mon:stdio`; then the monitor shares it.
    pub serials: Vec<Wire>,
    /// Parallel ports, in order.
    pub parallels: Vec<Wire>,
    /// Human monitors.
    pub monitors: Vec<Wire>,
    /// QMP servers.
    pub qmps: Vec<Wire>,
    /// The qtest server.
    pub qtest: Option<Wire>,
    /// The gdb server.
    pub gdb: Option<Wire>,
}

/// A front end that cannot be where it should be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// No such back end.
    #[error("{origin}: {reason}")]
    Spec {
        /// The option and its argument.
        origin: String,
        /// What would be right.
        reason: String,
    },
    /// Two on standard input.
    #[error("{origin}: cannot use stdio by multiple character devices; '{other}' has it already")]
    StdioTwice {
        /// The second.
        origin: String,
        /// The first.
        other: String,
    },
}

impl FrontEnds {
    /// Reads the options' back ends and adds the defaults.
    ///
    /// Without any option that says where the serial port or the monitor goes, they share the terminal, as with
    /// `-nographic`: there is no window in which QEMU would show them.
    ///
    /// # Errors
    /// A back end that there is not; standard input used twice.
    pub fn new(options: &Options) -> Result<Self, WireError> {
        let wires = |option: &str, texts: &[String]| {
            texts.iter().map(|text| wire(option, text)).collect::<Result<Vec<_>, _>>()
        };
        let mut ends = Self {
            serials: wires("-serial", &options.serials)?,
            parallels: wires("-parallel", &options.parallels)?,
            monitors: wires("-monitor", &options.monitors)?,
            qmps: wires("-qmp", &options.qmps)?,
            qtest: options.qtest.as_ref().map(|text| wire("-qtest", text)).transpose()?,
            gdb: options.gdb.as_ref().map(|text| named("-gdb", text, gdb::spec)).transpose()?,
        };
        let gdb_on_stdio = ends.gdb.as_ref().is_some_and(Wire::uses_stdio);
        let shared = ends.serials.iter().any(|wire| wire.spec == CharSpec::Stdio { mux: true });
        let default_serial = ends.serials.is_empty() && !options.nodefaults;
        let default_monitor =
            ends.monitors.is_empty() && ends.qmps.is_empty() && !shared && !options.nodefaults;
        let unsaid = default_serial
            && default_monitor
            && ends.qtest.is_none()
            && !gdb_on_stdio
            && !options.display_none;
        if options.nographic || unsaid {
            let stdio = |mux| Wire::default_to("-nographic", CharSpec::Stdio { mux });
            match (default_serial, default_monitor) {
                (true, true) => ends.serials.push(stdio(true)),
                (true, false) => ends.serials.push(stdio(false)),
                (false, true) => ends.monitors.push(stdio(false)),
                (false, false) => {}
            }
        } else if default_serial {
            ends.serials.push(Wire::default_to("-serial", CharSpec::Vc));
        }
        if let Some(shared) = ends.parallels.iter().find(|wire| wire.spec == CharSpec::Stdio { mux: true }) {
            let reason = "the monitor shares a terminal with a serial port only; try stdio".to_owned();
            return Err(WireError::Spec { origin: shared.origin.clone(), reason });
        }
        if ends.parallels.is_empty() && !options.nodefaults {
            let spec = if options.nographic { CharSpec::Null } else { CharSpec::Vc };
            ends.parallels.push(Wire::default_to("-parallel", spec));
        }
        ends.check_stdio()?;
        Ok(ends)
    }

    fn all(&self) -> impl Iterator<Item = &Wire> {
        let ports = self.serials.iter().chain(&self.parallels);
        ports.chain(&self.monitors).chain(&self.qmps).chain(&self.qtest).chain(&self.gdb)
    }

    fn check_stdio(&self) -> Result<(), WireError> {
        let mut on_stdio = self.all().filter(|wire| wire.uses_stdio());
        match (on_stdio.next(), on_stdio.next()) {
            (Some(first), Some(second)) => {
                Err(WireError::StdioTwice { origin: second.origin.clone(), other: first.origin.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the machine can be told something by another way than standard input.
    pub fn reachable_elsewhere(&self) -> bool {
        let servers = self.monitors.iter().chain(&self.qmps).chain(&self.qtest);
        servers.into_iter().any(Wire::is_reachable)
    }
}

fn wire(option: &str, text: &str) -> Result<Wire, WireError> {
    named(option, text, CharSpec::parse)
}

fn named(
    option: &str,
    text: &str,
    parse: fn(&str) -> Result<CharSpec, CharError>,
) -> Result<Wire, WireError> {
    let origin = format!("{option} {text}");
    match parse(text) {
        Ok(spec) => Ok(Wire { origin, spec }),
        Err(error) => Err(WireError::Spec { origin, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{self, Asked};

    fn ends(line: &str) -> Result<FrontEnds, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match options::parse(&args) {
            Ok(Asked::Run(options)) => FrontEnds::new(&options).map_err(|e| e.to_string()),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn specs(wires: &[Wire]) -> Vec<String> {
        wires.iter().map(|wire| wire.spec.to_string()).collect()
    }

    #[test]
    fn defaults_are_those_of_qemu() {
        for (line, serials, monitors) in [
            ("-M mips", &["mon:stdio"][..], &[][..]),
            ("-nographic", &["mon:stdio"], &[]),
            ("-nographic -serial null", &["null"], &["stdio"]),
            ("-nographic -monitor none", &["stdio"], &["none"]),
            ("-nographic -qmp unix:/a,server,nowait", &["stdio"], &[]),
            ("-nographic -nodefaults", &[], &[]),
            ("-monitor stdio", &["vc"], &["stdio"]),
            ("-display none", &["vc"], &[]),
            ("-display none -serial stdio", &["stdio"], &[]),
            ("-serial mon:stdio", &["mon:stdio"], &[]),
            ("-nodefaults", &[], &[]),
            ("-qtest stdio", &["vc"], &[]),
            ("-gdb stdio", &["vc"], &[]),
            ("-s", &["mon:stdio"], &[]),
        ] {
            let ends = ends(line).unwrap();
            assert_eq!(specs(&ends.serials), serials, "{line}");
            assert_eq!(specs(&ends.monitors), monitors, "{line}");
        }
    }

    #[test]
    fn standard_input_has_one_user() {
        assert_eq!(
            ends("-monitor stdio -serial stdio"),
            Err("-monitor stdio: cannot use stdio by multiple character devices; '-serial stdio' has it already"
                .to_owned())
        );
        assert!(ends("-nographic -qtest stdio").is_err());
        assert!(ends("-monitor stdio -gdb stdio").is_err());
        assert!(ends("-serial mon:stdio -monitor stdio").is_err());
    }

    #[test]
    fn a_back_end_that_there_is_not_is_named_with_its_option() {
        let error = ends("-monitor foo").unwrap_err();
        assert!(error.starts_with("-monitor foo: ") && error.contains("tcp:HOST:PORT"), "{error}");
    }

    #[test]
    fn sockets_keep_the_machine_reachable() {
        assert!(ends("-monitor stdio -qmp unix:/tmp/x,server,nowait").unwrap().reachable_elsewhere());
        assert!(!ends("-monitor stdio -serial tcp:h:1").unwrap().reachable_elsewhere());
    }
}
