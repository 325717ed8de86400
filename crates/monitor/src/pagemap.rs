//! The host's physical address behind an address of this process: `/proc/self/pagemap`.
//!
//! It is not the guest's business, and what it tells is true for a moment only: the host moves pages as it likes.

use crate::os_error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bit 63 of an entry: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// Bits 0 to 54 of an entry: the number of the page frame.
const FRAME: u64 = (1 << 55) - 1;

/// The physical address behind a virtual one of this process.
///
/// # Errors
/// Why there is none, or why the host does not tell it.
pub fn physical(addr: u64) -> Result<u64, String> {
    let page = rustix::param::page_size() as u64;
    let file = File::open("/proc/self/pagemap")
        .map_err(|e| format!("Cannot open /proc/self/pagemap: {}", os_error(&e)))?;
    let mut entry = [0; 8];
    let read = file.read_exact_at(&mut entry, addr / page * 8);
    read.map_err(|e: io::Error| format!("Cannot read pagemap: {}", os_error(&e)))?;
    decode(u64::from_ne_bytes(entry), page).map(|start| start + addr % page)
}

/// The physical address of a page, by its entry.
fn decode(entry: u64, page: u64) -> Result<u64, String> {
    if entry & PRESENT == 0 {
        return Err("Page not present".to_owned());
    }
    match entry & FRAME {
        // The kernel zeroes the number where it must not be seen.
        0 => {
            Err("The host tells this process no physical addresses; it needs CAP_SYS_ADMIN (run it as root)"
                .to_owned())
        }
        // No host has memory there.
        frame => frame.checked_mul(page).ok_or_else(|| "Cannot read pagemap: it is none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_frame_absent_or_hidden() {
        assert_eq!(decode(PRESENT | 1 << 55 | 0x1234, 4096), Ok(0x123_4000));
        assert!(decode(PRESENT | FRAME, 4096).is_err());
        // Swapped: the low bits say where to, and are no frame.
        assert_eq!(decode(1 << 62 | 0x1234, 4096), Err("Page not present".to_owned()));
        assert_eq!(decode(0, 4096), Err("Page not present".to_owned()));
        assert!(decode(PRESENT | 1 << 61, 4096).unwrap_err().contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn two_addresses_of_one_page_are_as_far_apart_as_they_were() {
        let bytes = vec![1_u8; 3 * 4096];
        let addr = bytes.as_ptr().addr().next_multiple_of(4096) as u64;
        match (physical(addr), physical(addr + 0x123)) {
            (Ok(a), Ok(b)) => assert_eq!(b, a + 0x123),
            // Not everybody may know.
            (Err(a), Err(b)) => assert!(a == b && a != "Page not present", "{a}"),
            // The host may move the page between the two.
            (a, b) => panic!("{a:?} {b:?}"),
        }
        assert!(physical(0).is_err());
    }
}
