//! The memory system of a machine.
