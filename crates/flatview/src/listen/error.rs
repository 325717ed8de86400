//! Why a listener refuses.

use std::fmt;
use std::sync::Arc;

/// Why a listener could not follow a change: one line for people, with the place and the cure if there is one.
///
/// It becomes a part of the [`MemoryError`](crate::MemoryError) of the change, which adds the listener's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerError(Arc<str>);

impl ListenerError {
    /// A reason, for example the system call that failed and its error.
    #[must_use]
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ListenerError {}

impl From<std::io::Error> for ListenerError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
