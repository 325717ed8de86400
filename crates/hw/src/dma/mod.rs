//! ISA direct memory access: controllers, and the channel by which a device moves bytes through one.
//!
//! A device holds a [`DmaChannel`], drives its request line, and is asked through [`DmaDevice`] for the bytes; the
//! controller knows addresses, counts and directions. What must always hold: neither the controller's nor the device's
//! state is locked while memory is accessed or the other one is called, so a channel may be programmed to write into
//! the registers of its own controller or device.

use std::fmt;
use std::sync::{Arc, Weak};

pub mod i82374;
pub mod i8257;

use i8257::I8257;

/// What a DMA cycle does, seen from memory (8237A data sheet, mode register, bits 2 and 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaKind {
    /// Addresses and counts go on, and no byte moves.
    Verify,
    /// From the device to memory.
    Write,
    /// From memory to the device.
    Read,
}

/// A run of cycles as the device sees it, at most as many bytes as it said that it is ready for.
#[derive(Debug)]
pub enum DmaCycles<'a> {
    /// So many bytes are neither taken nor given.
    Verify(usize),
    /// The device gives all of these.
    Write(&'a mut [u8]),
    /// The device takes all of these.
    Read(&'a [u8]),
}

/// The device's end of a channel.
pub trait DmaDevice: Send + Sync {
    /// How many bytes it could move now; with 0 it is asked again after its next [`DmaChannel::request`].
    fn ready(&self, kind: DmaKind) -> usize;
    /// Moves bytes. Between the question and this the guest may have changed the device: bytes that it cannot take
    /// any more are dropped, those that it has not are 0.
    fn cycles(&self, cycles: DmaCycles<'_>);
    /// The last byte of the count has been moved (the pulse of EOP).
    fn terminal_count(&self);
}

/// A device's connection to a channel of a controller.
#[derive(Clone)]
pub struct DmaChannel {
    controller: Weak<I8257>,
    number: usize,
}

impl fmt::Debug for DmaChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaChannel({})", self.number)
    }
}

impl DmaChannel {
    /// Channel 0 to 3 of this controller; other numbers lead nowhere.
    pub(crate) fn new(controller: &Arc<I8257>, number: usize) -> DmaChannel {
        DmaChannel { controller: Arc::downgrade(controller), number }
    }

    /// Says who is at the other end, held weakly; a channel has one device, later calls do nothing.
    pub fn attach(&self, device: &Arc<dyn DmaDevice>) {
        if let Some(controller) = self.controller.upgrade() {
            controller.attach(self.number, Arc::downgrade(device));
        }
    }

    /// Drives DREQ. While it is high and the channel is not masked, what the device is ready for is moved before this
    /// returns; call it without holding the device's state.
    pub fn request(&self, level: bool) {
        if let Some(controller) = self.controller.upgrade() {
            controller.request(self.number, level);
        }
    }
}
