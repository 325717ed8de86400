//! Displays.

pub mod vga;
