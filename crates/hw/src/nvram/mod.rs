//! Memories that keep their contents, and what firmware is told.

pub mod fw_cfg;
pub mod m48t59;
pub mod pflash;
