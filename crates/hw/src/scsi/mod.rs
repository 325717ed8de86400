//! SCSI host adapters.

pub mod lsi53c810;
