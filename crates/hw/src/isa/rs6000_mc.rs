//! `rs6000-mc`: the memory controller of the RS/6000 40p: six SIMM sockets, in pairs of 8 or 32 MiB.
//!
//! Which sockets are filled is told by ports 0x803 (32 MiB SIMM present) and 0x804 (socket empty). Port 0x820 places
//! them: bits 7–5 are the socket, 1 to 6, bits 4–0 the address at which the SIMM ends, in 8 MiB; a SIMM starts where
//! the socket before it ends, and one that starts where it ends is switched off. Port 0x841 is the parity register,
//! which always reads 1. Reading port 0x820 tells the ends of
//! one socket after the other; reading port 0x804 begins again. The SIMMs stand at priority 0 to 5, so a later socket hides an earlier one. A system reset
//! does not move them.

use std::sync::{Arc, OnceLock};

use flatview::{MemoryError, Owner, RamBlock, RamError, Region, RegionId};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{DeviceCell, MapHandle, QtreeDevice};

const MIB: u64 = 1 << 20;
/// Port 0x820 counts in this unit.
const UNIT: u64 = 8 * MIB;
/// Pairs of sockets.
const PAIRS: usize = 3;

/// RAM that the sockets cannot hold, or that the host cannot give.
#[derive(Debug, thiserror::Error)]
pub enum SimmError {
    /// The sockets take pairs of 8 or 32 MiB.
    #[error(
        "RAM size of {asked} bytes does not fit this board's three pairs of 8 MiB or 32 MiB SIMMs; try {nearest} MiB (-m {nearest})"
    )]
    Size {
        /// What was asked for, in bytes.
        asked: u64,
        /// The largest fitting size below, or the smallest there is, in MiB.
        nearest: u64,
    },
    /// The host refused.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The map refused.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The sizes of the SIMMs, in MiB, that make up a RAM size in bytes; fractions of a MiB are dropped.
///
/// # Errors
/// [`SimmError::Size`] names the next smaller size that fits.
pub fn simm_sizes(ram_size: u64) -> Result<Vec<u64>, SimmError> {
    let mut left = ram_size / MIB;
    let mut sizes = Vec::new();
    for _ in 0..PAIRS {
        for size in [32, 8] {
            if left >= 2 * size {
                sizes.extend([size, size]);
                left -= 2 * size;
                break;
            }
        }
    }
    if left == 0 {
        return Ok(sizes);
    }
    let fitting: u64 = sizes.iter().sum();
    Err(SimmError::Size { asked: ram_size, nearest: if fitting == 0 { 16 } else { fitting } })
}

/// The device.
#[derive(Debug)]
pub struct Rs6000Mc {
    ram_size: u64,
    sizes: Vec<u64>,
    map: MapHandle,
    simms: OnceLock<Vec<RegionId>>,
    cell: DeviceCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where each socket's SIMM ends, as written to port 0x820, in 8 MiB; socket 0 is none.
    ends: [u8; 8],
    /// Which of them port 0x820 reads next.
    next_read: u8,
}

impl Rs6000Mc {
    /// The ports, as ranges of (first port, number of ports).
    pub const PORTS: [(u16, u16); 3] = [(0x803, 2), (0x820, 1), (0x841, 1)];

    /// A controller with SIMMs for `ram_size` bytes.
    ///
    /// # Errors
    /// [`SimmError::Size`] if the sockets cannot hold that much.
    pub fn new(ram_size: u64, map: &MapHandle) -> Result<Arc<Rs6000Mc>, SimmError> {
        let sizes = simm_sizes(ram_size)?;
        Ok(Arc::new(Rs6000Mc {
            ram_size,
            sizes,
            map: map.clone(),
            simms: OnceLock::new(),
            cell: DeviceCell::new(State::default()),
        }))
    }

    /// The SIMMs as regions, in socket order, each with the address it starts at; the board maps socket *n* at priority
    /// *n* and hands the ids back with [`Rs6000Mc::set_simms`]. With a block they are windows of it, one behind the other; without,
    /// each has a block of its own.
    ///
    /// # Errors
    /// What the host says when it has not enough memory.
    pub fn simm_regions(
        &self,
        owner: &Owner,
        block: Option<&Arc<RamBlock>>,
    ) -> Result<Vec<(u64, Region)>, SimmError> {
        let mut address = 0;
        self.sizes
            .iter()
            .enumerate()
            .map(|(n, size)| {
                let name = format!("simm.{n}");
                let place = address;
                address += size * MIB;
                let region = match block {
                    Some(block) => Region::ram(name, block.clone()).window(place, size * MIB),
                    None => {
                        let block = RamBlock::anonymous(&name, size * MIB)?;
                        Region::ram(name, block)
                    }
                };
                Ok((place, region.owner(owner)))
            })
            .collect()
    }

    /// Tells the controller which regions its SIMMs are; later calls do nothing.
    pub fn set_simms(&self, simms: Vec<RegionId>) {
        let _ = self.simms.set(simms);
    }

    /// A region for each range of [`Rs6000Mc::PORTS`], with its first port.
    pub fn port_regions(self: &Arc<Self>, owner: &Owner) -> Vec<(u16, Region)> {
        Self::PORTS
            .into_iter()
            .map(|(base, length)| {
                (base, Region::io("rs6000mc", length.into(), PortRange::new(self, base, length)).owner(owner))
            })
            .collect()
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("rs6000-mc").number("ram-size", self.ram_size).flag("auto-configure", true)
    }

    /// Bit *n*: whether socket *n* holds a SIMM for which `holds` is true.
    fn sockets(&self, holds: impl Fn(Option<u64>) -> bool) -> u8 {
        (0..8).filter(|n| holds(self.sizes.get(*n).copied())).fold(0, |bits, n| bits | 1 << n)
    }

    fn look(&self, port: u16) -> Option<u8> {
        match port {
            0x803 => Some(self.sockets(|size| size == Some(32))),
            0x804 => Some(self.sockets(|size| size.is_none())),
            0x841 => Some(1),
            _ => None,
        }
    }

    /// Places the SIMM of a socket: `start` and `end` in 8 MiB.
    fn place(&self, socket: u8, start: u8, end: u8) {
        let simm =
            self.simms.get().zip(usize::from(socket).checked_sub(1)).and_then(|(simms, n)| simms.get(n));
        if let Some(simm) = simm {
            self.map.update(|t| {
                // One that is switched off moves too.
                t.set_address(*simm, u64::from(start) * UNIT)?;
                t.set_enabled(*simm, start != end)
            });
        }
    }
}

impl BytePorts for Rs6000Mc {
    fn read(&self, port: u16) -> u8 {
        if port == 0x804 {
            self.cell.with(|state, _| state.next_read = 0);
        }
        self.look(port).unwrap_or_else(|| {
            self.cell.with(|state, _| {
                let end = state.ends.get(usize::from(state.next_read)).copied().unwrap_or(0);
                state.next_read = (state.next_read + 1) & 7;
                end
            })
        })
    }

    fn write(&self, port: u16, value: u8) {
        if port != 0x820 {
            return;
        }
        let (socket, end) = (value >> 5, value & 0x1f);
        let start = self.cell.with(|state, _| {
            if let Some(slot) = state.ends.get_mut(usize::from(socket)) {
                *slot = end;
            }
            // The first SIMM starts at 0, whatever was written for socket 0, which there is not.
            let before = socket.checked_sub(1).filter(|before| *before > 0);
            before.and_then(|before| state.ends.get(usize::from(before))).copied().unwrap_or(0)
        });
        self.place(socket, start, end);
    }

    fn peek(&self, port: u16) -> Option<u8> {
        self.look(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU 7.2's 40p does with `-m`, tried one by one.
    #[test]
    fn ram_sizes_are_taken_and_refused_as_by_qemu() {
        for (mib, simms) in [
            (16, vec![8, 8]),
            (32, vec![8; 4]),
            (48, vec![8; 6]),
            (64, vec![32, 32]),
            (80, vec![32, 32, 8, 8]),
            (96, vec![32, 32, 8, 8, 8, 8]),
            (128, vec![32; 4]),
            (144, vec![32, 32, 32, 32, 8, 8]),
            (192, vec![32; 6]),
        ] {
            assert_eq!(simm_sizes(mib * MIB).unwrap(), simms, "{mib} MiB");
        }
        for (mib, nearest) in [
            (1, 16),
            (8, 16),
            (17, 16),
            (24, 16),
            (40, 32),
            (72, 64),
            (112, 96),
            (120, 96),
            (136, 128),
            (160, 144),
            (208, 192),
            (5000, 192),
        ] {
            let text = simm_sizes(mib * MIB).unwrap_err().to_string();
            assert!(text.contains(&format!("try {nearest} MiB")), "{mib} MiB: {text}");
        }
        assert_eq!(simm_sizes(16 * MIB + 1000).unwrap(), [8, 8]);
    }
}
