//! What can go wrong apart from being slow.

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A map could not be built.
    #[error("Cannot build the map of a measurement: {0}")]
    Memory(#[from] flatview::MemoryError),
    /// RAM could not be had.
    #[error("Cannot get the RAM of a measurement: {0}")]
    Ram(#[from] flatview::RamError),
    /// An access that must work did not.
    #[error("An access of a measurement failed: {0}")]
    Access(#[from] flatview::MemTxError),
    /// vm-memory does not take the RAM.
    #[error("vm-memory refuses the RAM of a measurement: {0}")]
    VmMemory(String),
    /// Contenders gave different results: one of them does not do the work.
    #[error(
        "In '{figure}' the results of '{one}' and '{other}' differ ({a:#x} and {b:#x}): one of them does not do the same work; the measurement is worthless until that is mended"
    )]
    Disagree {
        /// The figure.
        figure: String,
        /// One contender.
        one: &'static str,
        /// The other one.
        other: &'static str,
        /// What the one added up to.
        a: u64,
        /// What the other added up to.
        b: u64,
    },
    /// A contender that the comparison names did not run.
    #[error("In '{figure}' there is no contender '{contender}': a mistake in flatview-bench")]
    NoContender {
        /// The figure.
        figure: String,
        /// Who is missing.
        contender: String,
    },
    /// A measuring thread died.
    #[error("A thread of '{figure}' ended before its time; see above for its panic")]
    Thread {
        /// The figure.
        figure: String,
    },
    /// A machine that is to run guest code could not be had.
    #[error("Cannot run the guests' benchmark: {text}")]
    Machine {
        /// What the machine said.
        text: String,
    },
    /// A guest did not print what it should.
    #[error(
        "The guests' benchmark printed '{line}' where the end of '{what}' was due; the emulator is wrong, or hangs"
    )]
    Guest {
        /// The loop and its passes.
        what: String,
        /// What came.
        line: String,
    },
    /// The results could not be written.
    #[error("Cannot write '{path}': {source}; name a file in a folder that exists and can be written")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
