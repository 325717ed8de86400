//! What firmware finds in a PReP machine's NVRAM: the system configuration that QEMU writes there.
//!
//! A header with the RAM size, where the command line is and which screen to set up, and a checksum over it. (PReP
//! specification, "NVRAM"; the fields that QEMU fills in were read from a running QEMU 7.2.)

/// The contents for a machine with `ram_size` bytes of RAM whose program finds `arguments` at address `command_line`.
pub(super) fn contents(ram_size: u64, command_line: u64, arguments: &str) -> Vec<u8> {
    let mut bytes = vec![0_u8; 0x100];
    let mut put = |at: usize, data: &[u8]| {
        if let Some(slot) = bytes.get_mut(at..at + data.len()) {
            slot.copy_from_slice(data);
        }
    };
    put(0x00, b"QEMU_BIOS");
    put(0x10, &2_u32.to_be_bytes());
    put(0x14, &0x2000_u16.to_be_bytes());
    put(0x20, b"PREP");
    put(0x30, &(ram_size as u32).to_be_bytes());
    put(0x34, b"c");
    put(0x40, &(command_line as u32).to_be_bytes());
    put(0x44, &(arguments.len() as u32).to_be_bytes());
    put(0x54, &800_u16.to_be_bytes());
    put(0x56, &600_u16.to_be_bytes());
    put(0x58, &32_u16.to_be_bytes());
    // QEMU's checksum runs from the second byte on.
    let checksum = bytes.get(1..0xf9).map_or(0, crc16);
    if let Some(slot) = bytes.get_mut(0xfc..0xfe) {
        slot.copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// CRC-16/MCRF4XX: polynomial 0x1021, reflected, started with ones.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x8408 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read from a running QEMU 7.2 with 128 MiB.
    #[test]
    fn the_nvram_starts_with_what_qemu_writes_there() {
        let bytes = contents(128 << 20, 0x017f_f000, "");
        assert_eq!(bytes[0x30..0x44], *b"\x08\0\0\0c\0\0\0\0\0\0\0\0\0\0\0\x01\x7f\xf0\0");
        assert_eq!(bytes[0x54..0x5a], *b"\x03\x20\x02\x58\0\x20");
        assert_eq!(bytes[0xfc..], *b"\x95\x06\0\0");
    }
}
