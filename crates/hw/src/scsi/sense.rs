//! Why a SCSI command ended with CHECK CONDITION: sense key, additional sense code and its qualifier.
//!
//! Names are those of the standard (SPC-3, §4.5 and annex D); [`Sense::NONE`] is "no sense".

/// A sense key with its additional code and qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sense {
    /// Sense key, 4 bits.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Additional sense code qualifier.
    pub qualifier: u8,
}

const fn sense(key: u8, code: u8, qualifier: u8) -> Sense {
    Sense { key, code, qualifier }
}

/// The key UNIT ATTENTION.
const UNIT_ATTENTION: u8 = 6;

impl Sense {
    /// Nothing to tell.
    pub const NONE: Sense = sense(0, 0, 0);
    /// NOT READY, MEDIUM NOT PRESENT.
    pub const NO_MEDIUM: Sense = sense(2, 0x3a, 0);
    /// NOT READY, MEDIUM REMOVAL PREVENTED.
    pub const REMOVAL_PREVENTED_EMPTY: Sense = sense(2, 0x53, 2);
    /// MEDIUM ERROR, UNRECOVERED READ ERROR.
    pub const READ_ERROR: Sense = sense(3, 0x11, 0);
    /// MEDIUM ERROR, WRITE ERROR.
    pub const WRITE_ERROR: Sense = sense(3, 0x0c, 0);
    /// ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LENGTH: Sense = sense(5, 0x1a, 0);
    /// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Sense = sense(5, 0x20, 0);
    /// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const OUT_OF_RANGE: Sense = sense(5, 0x21, 0);
    /// ILLEGAL REQUEST, INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Sense = sense(5, 0x24, 0);
    /// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
    pub const NO_UNIT: Sense = sense(5, 0x25, 0);
    /// ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_PARAMETER: Sense = sense(5, 0x26, 0);
    /// ILLEGAL REQUEST, CANNOT READ MEDIUM - INCOMPATIBLE FORMAT.
    pub const INCOMPATIBLE_FORMAT: Sense = sense(5, 0x30, 0);
    /// ILLEGAL REQUEST, SAVING PARAMETERS NOT SUPPORTED.
    pub const NO_SAVED_PARAMETERS: Sense = sense(5, 0x39, 0);
    /// ILLEGAL REQUEST, MEDIUM REMOVAL PREVENTED.
    pub const REMOVAL_PREVENTED: Sense = sense(5, 0x53, 2);
    /// UNIT ATTENTION, NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
    pub const MEDIUM_CHANGED: Sense = sense(UNIT_ATTENTION, 0x28, 0);
    /// UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const RESET: Sense = sense(UNIT_ATTENTION, 0x29, 0);
    /// UNIT ATTENTION, MEDIUM NOT PRESENT.
    pub const MEDIUM_GONE: Sense = sense(UNIT_ATTENTION, 0x3a, 0);
    /// DATA PROTECT, WRITE PROTECTED.
    pub const WRITE_PROTECTED: Sense = sense(7, 0x27, 0);

    /// As sense data of fixed format: 18 bytes.
    pub fn fixed(self) -> Vec<u8> {
        let mut data = vec![0; 18];
        for (at, byte) in [(0, 0x70), (2, self.key), (7, 10), (12, self.code), (13, self.qualifier)] {
            if let Some(slot) = data.get_mut(at) {
                *slot = byte;
            }
        }
        data
    }

    /// As sense data of descriptor format: 8 bytes, without a descriptor.
    pub fn descriptor(self) -> Vec<u8> {
        vec![0x72, self.key, self.code, self.qualifier, 0, 0, 0, 0]
    }
}
