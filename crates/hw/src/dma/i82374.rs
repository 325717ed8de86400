//! `i82374`: the registers by which Intel's EISA and PCI bridges extend a PC's DMA, ports 0x40a and 0x410 to 0x43f.
//!
//! They would show interrupts and pointers of scatter/gather transfers (82374EB/82374SB data sheet, "DMA register
//! description", scatter/gather command, status and descriptor table pointer registers). Scatter/gather is not modelled:
//! as on QEMU no channel ever has a list, the registers show that none runs, and what is written is lost, which `-d unimp`
//! tells. The DMA controllers themselves are devices of their own ([`super::i8257`]).

use std::sync::Arc;

use flatview::{Owner, Region};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{Log, LogMask, QtreeDevice};

/// First port of the EISA bridge's registers; those that are there stand further up.
pub const BASE: u16 = 0x400;
/// The ports, as (first, number).
const PORTS: [(u16, u16); 2] = [(0x40a, 1), (0x410, 0x30)];
/// One write-only command register for each channel.
const COMMANDS: std::ops::Range<u16> = 0x410..0x418;

/// The device.
#[derive(Debug)]
pub struct I82374 {
    log: Log,
}

impl I82374 {
    /// The device, which has no state.
    pub fn new(log: &Log) -> Arc<I82374> {
        Arc::new(I82374 { log: log.clone() })
    }

    /// The regions, each with its first port.
    pub fn regions(self: &Arc<Self>, owner: &Owner) -> Vec<(u16, Region)> {
        let region = |(base, count): (u16, u16)| {
            (base, Region::io("i82374", count.into(), PortRange::new(self, base, count)).owner(owner))
        };
        PORTS.into_iter().map(region).collect()
    }

    /// The entry in `info qtree`.
    pub fn qtree() -> QtreeDevice {
        QtreeDevice::new("i82374").number("iobase", BASE.into())
    }
}

impl BytePorts for I82374 {
    fn read(&self, port: u16) -> u8 {
        if COMMANDS.contains(&port) { 0xff } else { 0 }
    }

    fn write(&self, port: u16, value: u8) {
        self.log.line(
            LogMask::UNIMP,
            format_args!("i82374: write of {value:#04x} to port {port:#x}: scatter/gather is not modelled"),
        );
    }

    fn peek(&self, port: u16) -> Option<u8> {
        Some(self.read(port))
    }
}
