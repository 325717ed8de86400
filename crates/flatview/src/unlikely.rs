//! A word to the compiler.

/// Says that the way it stands on is seldom taken, so that what is kept in registers on the usual way stays there.
#[cold]
#[inline]
pub(crate) fn unlikely() {}
