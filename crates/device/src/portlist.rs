//! Old ISA ports: a list of runs of ports, each with callbacks of one width.
//!
//! What it is: [`PortList`], from which i/o regions are made as QEMU's `portio_list_add` makes them (its tables are
//! arrays of `MemoryRegionPortio`). What it is not: the way to write a new device; one whose registers are all bytes is simpler as
//! [`PortRange`](crate::portio::PortRange), and one with registers of several widths as a [`Bank`](crate::Bank).
//!
//! What must hold: an access is answered by a run of exactly its width. Two bytes are else composed of a run of bytes, of which the
//! second must lie in the same run: where it does not it reads as ones, and is not written. All else reads as ones and writes nothing.

use std::fmt;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Region};

type ReadPort = Box<dyn Fn(u16) -> u32 + Send + Sync>;
type WritePort = Box<dyn Fn(u16, u32) + Send + Sync>;

/// A run of ports whose callbacks are of one width (QEMU: `MemoryRegionPortio`).
pub struct PortRun {
    first: u16,
    count: u16,
    width: u32,
    read: Option<ReadPort>,
    write: Option<WritePort>,
}

impl fmt::Debug for PortRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRun({:#x}, {} ports of {} bytes)", self.first, self.count, self.width)
    }
}

impl PortRun {
    /// `count` ports from `first` on, absolute, of `width` bytes (1, 2 or 4), without callbacks.
    #[must_use]
    pub fn new(first: u16, count: u16, width: u32) -> PortRun {
        PortRun { first, count, width, read: None, write: None }
    }

    /// With a callback that reads; it is given the port.
    #[must_use]
    pub fn read(mut self, callback: impl Fn(u16) -> u32 + Send + Sync + 'static) -> PortRun {
        self.read = Some(Box::new(callback));
        self
    }

    /// With a callback that writes; it is given port and value.
    #[must_use]
    pub fn write(mut self, callback: impl Fn(u16, u32) + Send + Sync + 'static) -> PortRun {
        self.write = Some(Box::new(callback));
        self
    }

    /// One past its last port.
    fn end(&self) -> u32 {
        u32::from(self.first) + u32::from(self.count)
    }

    fn takes(&self, port: u32, width: u32, write: bool) -> bool {
        let there = if write { self.write.is_some() } else { self.read.is_some() };
        there && self.width == width && port >= u32::from(self.first) && port < self.end()
    }

    fn load(&self, port: u32) -> Option<u64> {
        let read = self.read.as_ref()?;
        Some(u64::from(read(u16::try_from(port).ok()?)))
    }

    fn store(&self, port: u32, value: u32) {
        if let (Some(write), Ok(port)) = (&self.write, u16::try_from(port)) {
            write(port, value);
        }
    }
}

/// A list of runs of ports, in ascending order of their first port (QEMU: `PortioList`).
#[derive(Debug)]
pub struct PortList {
    name: String,
    runs: Vec<PortRun>,
}

impl PortList {
    /// An empty list; all regions made of it will have this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> PortList {
        PortList { name: name.into(), runs: Vec::new() }
    }

    /// With one more run.
    #[must_use]
    pub fn run(mut self, run: PortRun) -> PortList {
        self.runs.push(run);
        self
    }

    /// The regions, each with the port that it is to be mapped at: a gap between runs begins a new one.
    ///
    /// As in QEMU a region reaches as far as the widest access to its last port, so that one whose runs are wider than a byte is
    /// longer than its ports.
    #[must_use]
    pub fn regions(self) -> Vec<(u16, Region)> {
        let mut groups: Vec<(u16, u32, Vec<PortRun>)> = Vec::new();
        for run in self.runs {
            let reach = run.end() + run.width.saturating_sub(1);
            match groups.last_mut() {
                Some((_, end, runs)) if u32::from(run.first) <= *end => {
                    if run.end() > *end {
                        *end = reach;
                    }
                    runs.push(run);
                }
                _ => groups.push((run.first, reach, vec![run])),
            }
        }
        let region = |(base, end, runs): (u16, u32, Vec<PortRun>)| {
            let size = u128::from(end.saturating_sub(u32::from(base)));
            (base, Region::io(self.name.clone(), size, Ports { base, runs }))
        };
        groups.into_iter().map(region).collect()
    }
}

/// The runs of one region.
struct Ports {
    base: u16,
    runs: Vec<PortRun>,
}

impl Ports {
    fn find(&self, port: u32, width: u32, write: bool) -> Option<&PortRun> {
        self.runs.iter().find(|run| run.takes(port, width, write))
    }

    fn port(&self, access: &Access<'_>) -> u32 {
        u32::from(self.base).saturating_add(u32::try_from(access.offset()).unwrap_or(u32::MAX))
    }
}

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid_unaligned().implemented_unaligned()
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let (port, size) = (self.port(access), access.size());
        if let Some(value) = self.find(port, size, false).and_then(|run| run.load(port)) {
            return Ok(value);
        }
        if let (2, Some(run)) = (size, self.find(port, 1, false)) {
            let byte = |at: u32| if at < run.end() { run.load(at) } else { None };
            let low = byte(port).unwrap_or(0xff) & 0xff;
            return Ok(low | (byte(port + 1).unwrap_or(0xff) & 0xff) << 8);
        }
        Ok(u64::MAX)
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let (port, size) = (self.port(access), access.size());
        let [low, high, ..] = value.to_le_bytes();
        if let Some(run) = self.find(port, size, true) {
            run.store(port, u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        } else if let (2, Some(run)) = (size, self.find(port, 1, true)) {
            run.store(port, u32::from(low));
            if port + 1 < run.end() {
                run.store(port + 1, u32::from(high));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview::{Endianness, Le, Memory, Reader};
    use parking_lot::Mutex;
    use std::sync::Arc;

    type Writes = Arc<Mutex<Vec<(u16, u32, u32)>>>;

    /// Reads give the port's low byte in every byte; writes are noted with port, width and value.
    fn run(first: u16, count: u16, width: u32, writes: &Writes) -> PortRun {
        let writes = Arc::clone(writes);
        let run = PortRun::new(first, count, width);
        run.read(|port| u32::from(port & 0xff) * 0x0101_0101)
            .write(move |port, value| writes.lock().push((port, width, value)))
    }

    fn mapped(list: PortList) -> (Memory, Reader) {
        let memory = Memory::new(Endianness::Big);
        for (port, region) in list.regions() {
            let id = memory.add(region).unwrap();
            memory.map(memory.io(), u64::from(port), id).unwrap();
        }
        let reader = memory.io_space().reader();
        (memory, reader)
    }

    #[test]
    fn two_bytes_are_composed_of_byte_ports() {
        let writes = Writes::default();
        let (_memory, ports) = mapped(PortList::new("list").run(run(0x10, 4, 1, &writes)));
        assert_eq!(ports.load::<Le, u8>(0x11), Ok(0x11));
        assert_eq!(ports.load::<Le, u16>(0x11), Ok(0x1211));
        ports.store::<Le, u16>(0x11, 0xbbaa).unwrap();
        assert_eq!(*writes.lock(), [(0x11, 1, 0xaa), (0x12, 1, 0xbb)]);
    }

    #[test]
    fn at_the_last_byte_port_the_high_byte_reads_as_ones_and_is_not_written() {
        let writes = Writes::default();
        // Another run of bytes goes on behind it: that does not help.
        let list = PortList::new("list").run(run(0x10, 4, 1, &writes)).run(run(0x14, 1, 1, &writes));
        let (_memory, ports) = mapped(list);
        assert_eq!(ports.load::<Le, u16>(0x13), Ok(0xff13));
        ports.store::<Le, u16>(0x13, 0xbbaa).unwrap();
        assert_eq!(*writes.lock(), [(0x13, 1, 0xaa)]);
    }

    #[test]
    fn a_width_without_a_callback_reads_as_ones_and_writes_nothing() {
        let writes = Writes::default();
        let list = PortList::new("list").run(run(0x10, 4, 1, &writes)).run(run(0x20, 2, 2, &writes));
        let (_memory, ports) = mapped(list.run(PortRun::new(0x30, 1, 1).read(|_| 5)));
        assert_eq!(ports.load::<Le, u32>(0x10), Ok(u32::MAX));
        assert_eq!(ports.load::<Le, u8>(0x20), Ok(0xff));
        assert_eq!(ports.load::<Le, u16>(0x20), Ok(0x2020));
        ports.store::<Le, u32>(0x10, 0).unwrap();
        ports.store::<Le, u8>(0x20, 0).unwrap();
        ports.store::<Le, u8>(0x30, 0).unwrap();
        assert!(writes.lock().is_empty());
        ports.store::<Le, u16>(0x20, 0x1234).unwrap();
        assert_eq!(*writes.lock(), [(0x20, 2, 0x1234)]);
        assert_eq!(ports.load::<Le, u8>(0x30), Ok(5));
    }

    #[test]
    fn a_gap_begins_a_new_region_and_wide_ports_make_one_longer_than_they_are() {
        let writes = Writes::default();
        let list = PortList::new("vga")
            .run(run(0x3b4, 2, 1, &writes))
            .run(run(0x3ba, 1, 1, &writes))
            .run(run(0x3c0, 4, 1, &writes))
            .run(run(0x3c4, 2, 2, &writes));
        let (memory, _) = mapped(list);
        let view = memory.io_space().view().unwrap();
        let seen: Vec<_> =
            view.ranges().filter(|r| r.name() == "vga").map(|r| (r.start(), r.last())).collect();
        assert_eq!(seen, [(0x3b4, 0x3b5), (0x3ba, 0x3ba), (0x3c0, 0x3c6)]);
    }
}
