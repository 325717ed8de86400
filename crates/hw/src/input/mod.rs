//! Keyboards, mice and what they are attached to.

pub mod i8042;
mod ps2;
