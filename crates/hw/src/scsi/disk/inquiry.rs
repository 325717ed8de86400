//! Who a drive says it is: INQUIRY's data, and its properties for users.

use flatview_device::QtreeDevice;

use super::mode::{HEADS, SECTORS};
use super::{Disk, Kind, answer, be};
use crate::scsi::bus::{Cdb, Plan};
use crate::scsi::sense::Sense;

/// SPC-3.
const VERSION: u8 = 5;
const VENDOR: &str = "QEMU";
const REVISION: &str = "2.5+";
/// Bytes that a command may transfer at most, told in units of blocks.
const LARGEST_TRANSFER: u32 = 0x7fff_ffff;

/// Pages of vital product data.
mod page {
    pub const SUPPORTED: u8 = 0x00;
    pub const IDENTIFICATION: u8 = 0x83;
    pub const BLOCK_LIMITS: u8 = 0xb0;
    pub const BLOCK_CHARACTERISTICS: u8 = 0xb1;
}

impl Disk {
    fn peripheral(&self) -> u8 {
        if self.kind == Kind::CdRom { 5 } else { 0 }
    }

    fn product(&self) -> &'static str {
        if self.kind == Kind::CdRom { "QEMU CD-ROM" } else { "QEMU HARDDISK" }
    }

    /// INQUIRY.
    pub(super) fn inquiry(&self, cdb: &Cdb) -> Result<Plan, Sense> {
        let (vital, page, allocation) = (be(cdb, 1, 1) & 1 != 0, be(cdb, 2, 1) as u8, be(cdb, 3, 2));
        if vital {
            return answer(self.vital(page)?, allocation);
        }
        if page != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let removable = if self.kind == Kind::CdRom { 0x80 } else { 0 };
        let additional = allocation.clamp(36, 256) as u8;
        // Queued commands and synchronous transfers.
        let mut data =
            vec![self.peripheral(), removable, VERSION, 0x12, additional.wrapping_sub(5), 0, 0, 0x12];
        data.extend(format!("{VENDOR:8}{:16}{REVISION:4}", self.product()).bytes());
        answer(data, allocation)
    }

    fn vital(&self, page: u8) -> Result<Vec<u8>, Sense> {
        let hard = self.kind == Kind::HardDisk;
        let body = match page {
            page::SUPPORTED if hard => {
                vec![page::SUPPORTED, page::IDENTIFICATION, page::BLOCK_LIMITS, page::BLOCK_CHARACTERISTICS]
            }
            page::SUPPORTED => vec![page::SUPPORTED, page::IDENTIFICATION],
            page::IDENTIFICATION => {
                // One designator: ASCII, by the vendor's own rules, of the unit.
                let name = self.name.as_bytes();
                let name = name.get(..name.len().min(200)).unwrap_or_default();
                [&[2, 0, 0, name.len() as u8], name].concat()
            }
            page::BLOCK_LIMITS if hard => {
                let mut body = vec![0; 60];
                let largest = (LARGEST_TRANSFER / self.block() as u32).to_be_bytes();
                for (slot, byte) in body.iter_mut().skip(4).zip(largest) {
                    *slot = byte;
                }
                body
            }
            page::BLOCK_CHARACTERISTICS => vec![0; 60],
            _ => return Err(Sense::INVALID_FIELD),
        };
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        Ok([&[self.peripheral(), page], &length[..], &body[..]].concat())
    }
}

/// The drive's entry in `info qtree`.
pub(super) fn qtree(disk: &Disk, id: u8, lun: u8) -> QtreeDevice {
    let cd = disk.kind == Kind::CdRom;
    let mut device = QtreeDevice::new(if cd { "scsi-cd" } else { "scsi-hd" })
        .text("drive", &disk.name)
        .text("backend_defaults", "auto")
        .bare("logical_block_size", "512 (512 B)")
        .bare("physical_block_size", "512 (512 B)")
        .bare("min_io_size", "0 (0 B)")
        .bare("opt_io_size", "0 (0 B)")
        .bare("discard_granularity", "4096 (4 KiB)")
        .text("write-cache", "auto")
        .flag("share-rw", false)
        .text("account-invalid", "auto")
        .text("account-failed", "auto")
        .text("rerror", "auto")
        .text("werror", "auto")
        .text("ver", REVISION)
        .text("serial", "")
        .text("vendor", VENDOR)
        .text("product", disk.product())
        .text("device_id", &disk.name);
    if !cd {
        device = device.flag("removable", false).flag("dpofua", false);
    }
    device = device.number("wwn", 0).number("port_wwn", 0).number("port_index", 0);
    if !cd {
        device = device.number("max_unmap_size", 1 << 30);
    }
    device = device.number("max_io_size", LARGEST_TRANSFER.into());
    if !cd {
        device = device.number("rotation_rate", 0);
    }
    device = device.number("scsi_version", VERSION.into());
    device = if cd {
        device
            .flag("quirk_mode_page_apple_vendor", false)
            .flag("quirk_mode_sense_rom_use_dbd", false)
            .flag("quirk_mode_page_vendor_specific_apple", false)
            .flag("quirk_mode_page_truncated", false)
    } else {
        let cylinders = disk.state.lock().cylinders();
        device
            .flag("quirk_mode_page_vendor_specific_apple", false)
            .number("cyls", cylinders)
            .number("heads", HEADS)
            .number("secs", SECTORS)
            .number("lcyls", 0)
            .number("lheads", 0)
            .number("lsecs", 0)
    };
    device.number("channel", 0).number("scsi-id", id.into()).number("lun", lun.into())
}
