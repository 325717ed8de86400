//! SCSI: the bus with what stands on it, and host adapters.
//!
//! A [`bus::ScsiBus`] has [`bus::Unit`]s by target and logical unit; a host adapter hands a command descriptor block over and
//! gets a [`bus::Task`], which it feeds or empties as fast as it likes. [`disk::Disk`] is a hard disk or a CD-ROM drive with a
//! [`medium::Medium`].

pub mod bus;
pub mod disk;
pub mod lsi53c810;
pub mod medium;
pub mod sense;
