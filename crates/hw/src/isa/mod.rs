//! Small devices on ISA ports.

pub mod fdc;
pub mod pc87312;
pub mod pc_testdev;
pub mod rs6000_mc;
pub mod systemio;
