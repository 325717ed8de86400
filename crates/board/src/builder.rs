//! How a board puts itself together.
//!
//! A [`BoardBuilder`] collects what a machine consists of beside its memory: devices with their places in the object
//! tree and on buses, lines that can be reached by name, what is reset, what is loaded. Built-in boards and boards of a
//! user go through the same calls; nothing here knows any board. What must always hold: a device is reset in the order
//! in which boards registered it, and paths in the object tree are those QEMU gives.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use flatview::{AddressSpace, Endianness, Memory, MemoryError, Owner, RamBlock, Region, RegionId};
use flatview_cpu::GuestCpu;
use flatview_device::chardev::NullBackend;
use flatview_device::{
    CharBackend, CharSpec, Clock, IrqLine, Log, MapHandle, QomNode, QtreeBus, QtreeDevice, Reset, Unmodelled,
    WallClock,
};

use crate::drives::{DriveConfig, Drives};
use crate::firmware::{FirmwareDirs, Image, Rom};
use crate::memdev::{MachineRam, MemdevKind, MemdevSpec, MemoryObjects, ObjectError};
use crate::requests::Requests;
use crate::state::Request;
use crate::{BoardError, IcountConfig, IcountShift, MachineConfig, RtcClock, SerialConfig, pace};

/// Which side of a device a line is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinDirection {
    /// Lines that others drive.
    In,
    /// Lines that the device drives.
    Out,
}

/// Lines of a device that can be reached by name.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    pub path: String,
    pub direction: PinDirection,
    /// `None` for unnamed lines.
    pub name: Option<String>,
    pub lines: Vec<IrqLine>,
}

type Describe = Box<dyn Fn() -> QtreeDevice + Send + Sync>;
type InterruptState = Box<dyn Fn() -> String + Send + Sync>;

/// A bus of the machine, to plug devices into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusId(usize);

/// A device that stands on a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlugId(usize);

struct Bus {
    name: String,
    kind: String,
    provider: Option<PlugId>,
}

struct Plug {
    bus: BusId,
    describe: Describe,
}

/// What a machine has beside its memory.
pub(crate) struct Parts {
    pub qom: QomNode,
    buses: Vec<Bus>,
    plugs: Vec<Plug>,
    pub pins: Vec<Pins>,
    interrupt_states: Vec<InterruptState>,
    pub resets: Vec<Arc<dyn Reset>>,
    pub roms: Vec<Rom>,
    pub objects: Arc<MemoryObjects>,
    pub drives: Drives,
    pub backends: Vec<Arc<dyn CharBackend>>,
    pub warnings: Vec<String>,
    pub cpu_space: Option<AddressSpace>,
    pub ram_size: u64,
    pub entry: Option<u64>,
}

impl Parts {
    fn new(board: &str, objects: Arc<MemoryObjects>) -> Parts {
        let mut qom = QomNode::new("machine", format!("{board}-machine"));
        for container in ["peripheral", "peripheral-anon", "unattached"] {
            qom.entry(&format!("/machine/{container}"));
        }
        qom.entry("/machine/unattached/sysbus").kind = "System".to_owned();
        let bus = Bus { name: "main-system-bus".to_owned(), kind: "System".to_owned(), provider: None };
        Parts {
            qom,
            buses: vec![bus],
            plugs: Vec::new(),
            pins: Vec::new(),
            interrupt_states: Vec::new(),
            resets: Vec::new(),
            roms: Vec::new(),
            objects,
            drives: Drives::default(),
            backends: Vec::new(),
            warnings: Vec::new(),
            cpu_space: None,
            ram_size: 0,
            entry: None,
        }
    }

    /// The picture for `info qtree`, as things are now.
    pub fn qtree(&self) -> QtreeBus {
        self.qtree_bus(0)
    }

    /// The text of `info pic`, as things are now.
    pub fn interrupt_state(&self) -> String {
        self.interrupt_states.iter().map(|describe| describe()).collect()
    }

    fn qtree_bus(&self, bus: usize) -> QtreeBus {
        let Some(entry) = self.buses.get(bus) else { return QtreeBus::default() };
        let mut picture = QtreeBus::new(entry.name.clone(), entry.kind.clone());
        for (n, plug) in self.plugs.iter().enumerate().filter(|(_, plug)| plug.bus.0 == bus) {
            let mut device = (plug.describe)();
            // A bus is made after its provider was plugged, so this ends.
            let provided = self.buses.iter().enumerate().filter(|(_, b)| b.provider == Some(PlugId(n)));
            device.buses.extend(provided.map(|(n, _)| self.qtree_bus(n)));
            picture.plug(device);
        }
        picture
    }
}

/// What a board's code works with.
pub struct BoardBuilder<'a> {
    config: &'a MachineConfig,
    memory: Memory,
    clock: Clock,
    wall: WallClock,
    map: MapHandle,
    requests: Arc<Requests>,
    dirs: FirmwareDirs,
    unattached: usize,
    parts: Parts,
    cpus: Vec<Box<dyn GuestCpu>>,
    /// The board has asked for the RAM disk.
    took_initrd: bool,
    /// The board has asked for the NVRAM's file.
    took_nvram: bool,
    /// The board has asked for the CPU's model.
    took_cpu: bool,
    /// The board has asked for the drives.
    took_drives: bool,
}

impl fmt::Debug for BoardBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardBuilder").field("board", &self.config.board).finish_non_exhaustive()
    }
}

impl<'a> BoardBuilder<'a> {
    pub(crate) fn new(
        config: &'a MachineConfig,
        board: &str,
        target: Endianness,
        requests: Arc<Requests>,
    ) -> BoardBuilder<'a> {
        let memory = Memory::new(target);
        let clock = match config.icount.map(|icount| icount.shift) {
            _ if config.qtest => Clock::stepped(),
            Some(IcountShift::Fixed(shift)) => Clock::counted(shift),
            Some(IcountShift::Auto) => Clock::counted(pace::FIRST_SHIFT),
            None => Clock::realtime(),
        };
        let by_machine = match config.rtc.clock {
            RtcClock::Usual => config.icount.is_some(),
            RtcClock::Host => false,
            RtcClock::Machine => true,
        };
        let same = matches!(config.icount, Some(IcountConfig { shift: IcountShift::Fixed(_), .. }));
        let base = config.rtc.base.or((same && by_machine).then_some(IcountConfig::BASE));
        let wall = if by_machine { WallClock::machine } else { WallClock::new };
        let wall = wall(&clock, base);
        let map = MapHandle::new(&memory, &config.log);
        let dirs = FirmwareDirs::new(&config.firmware_dirs, config.only_firmware_dirs);
        let objects = Arc::new(MemoryObjects::new(&memory, board, config.prealloc_hook.watch()));
        let parts = Parts::new(board, objects);
        BoardBuilder {
            config,
            memory,
            clock,
            wall,
            map,
            requests,
            dirs,
            unattached: 0,
            parts,
            cpus: Vec::new(),
            took_initrd: false,
            took_nvram: false,
            took_cpu: false,
            took_drives: false,
        }
    }

    /// Refuses options that the board has not asked for.
    pub(crate) fn check_taken(&self, board: &'static str) -> Result<(), BoardError> {
        if self.config.initrd.is_some() && !self.took_initrd {
            let what = "place for an initial RAM disk";
            return Err(BoardError::NotOnBoard { board, what, option: "-initrd" });
        }
        if self.config.nvram.is_some() && !self.took_nvram {
            return Err(BoardError::NotOnBoard { board, what: "NVRAM", option: "-nvram" });
        }
        if !self.config.drives.is_empty() && !self.took_drives {
            return Err(BoardError::NotOnBoard {
                board,
                what: "SCSI bus",
                option: "-cdrom, -hda and -drive",
            });
        }
        if self.config.cpu.is_some() && !self.took_cpu {
            return Err(BoardError::NotOnBoard { board, what: "choice of CPUs", option: "-cpu" });
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> (Memory, Clock, Parts, Vec<Box<dyn GuestCpu>>) {
        (self.memory, self.clock, self.parts, self.cpus)
    }

    /// What the user asked for.
    pub fn config(&self) -> &'a MachineConfig {
        self.config
    }

    /// The machine's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Virtual time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The date that clock chips show.
    pub fn wall_clock(&self) -> &WallClock {
        &self.wall
    }

    /// The log of `-d`.
    pub fn log(&self) -> &'a Log {
        &self.config.log
    }

    /// The handle with which devices change the map.
    pub fn map_handle(&self) -> &MapHandle {
        &self.map
    }

    /// Where firmware is looked for.
    pub fn firmware_dirs(&self) -> &FirmwareDirs {
        &self.dirs
    }

    /// What a device calls to ask the machine for something; safe from inside an access.
    pub fn requester(&self) -> impl Fn(Request) + Send + Sync + 'static {
        let requests = self.requests.clone();
        move |request| requests.push(request)
    }

    /// What resets the CPUs and nothing else, as their hard reset line does; safe from inside an access.
    pub fn cpu_reset(&self) -> impl Fn() + Send + Sync + 'static {
        let requests = self.requests.clone();
        move || requests.reset_cpus()
    }

    /// A device at a path of the object tree: the owner of its regions.
    pub fn device(&mut self, path: &str, kind: &str) -> Owner {
        self.parts.qom.entry(path).kind = kind.to_owned();
        Owner::device(path)
    }

    /// A device that nobody gave a place: the next `/machine/unattached/device[N]`.
    pub fn unattached(&mut self, kind: &str) -> Owner {
        let path = format!("/machine/unattached/device[{}]", self.unattached);
        self.unattached += 1;
        self.device(&path, kind)
    }

    /// A part of a device, below it in the object tree.
    pub fn part(&mut self, owner: &Owner, name: &str, kind: &str) -> Owner {
        self.device(&format!("{}/{name}", owner.path()), kind)
    }

    /// An object below a device that owns nothing, such as a bus.
    pub fn object(&mut self, path: &str, kind: &str) {
        self.parts.qom.entry(path).kind = kind.to_owned();
    }

    /// Adds a region without mapping it.
    ///
    /// # Errors
    /// What the memory says.
    pub fn add(&mut self, region: Region) -> Result<RegionId, MemoryError> {
        self.memory.add(region)
    }

    /// Adds a region and maps it.
    ///
    /// # Errors
    /// What the memory says.
    pub fn map(
        &mut self,
        container: RegionId,
        addr: u64,
        priority: i32,
        region: Region,
    ) -> Result<RegionId, MemoryError> {
        self.memory.update(|t| {
            let id = t.add(region)?;
            t.map_overlap(container, addr, id, priority)?;
            Ok(id)
        })
    }

    /// Adds and maps the region of a device that is not modelled yet: its accesses are logged.
    ///
    /// # Errors
    /// What the memory says.
    pub fn map_unmodelled(
        &mut self,
        container: RegionId,
        addr: u64,
        priority: i32,
        name: &str,
        size: u64,
        owner: &Owner,
    ) -> Result<RegionId, MemoryError> {
        let region = Unmodelled::region(name, size.into(), self.log()).owner(owner);
        self.map(container, addr, priority, region)
    }

    /// A block of RAM for a region that is not the device's own business, noted for `info ramblock`.
    ///
    /// # Errors
    /// What the host says when it has not enough memory.
    pub fn ram_block(&mut self, name: &str, size: u64) -> Result<Arc<RamBlock>, BoardError> {
        let block = RamBlock::anonymous(name, size)?;
        self.note_block(&block);
        Ok(block)
    }

    /// Notes a block for `info ramblock`, which places blocks in the order in which they are noted.
    pub fn note_block(&mut self, block: &Arc<RamBlock>) {
        self.parts.objects.note_block(block);
    }

    /// The memory objects.
    pub(crate) fn objects(&self) -> &Arc<MemoryObjects> {
        &self.parts.objects
    }

    /// The block for the machine's RAM: the back end that the user chose, or one called `name`, made as `-mem-path` and
    /// `-mem-prealloc` say.
    ///
    /// # Errors
    /// [`BoardError::Object`]: there is no such back end, or the name is taken; what the host says.
    pub fn machine_ram(&mut self, name: &str, size: u64) -> Result<MachineRam, BoardError> {
        if let Some(id) = &self.config.memory_backend {
            return Ok(self.parts.objects.claim_for_machine(id)?);
        }
        let kind = if self.config.mem_path.is_some() { MemdevKind::File } else { MemdevKind::Ram };
        let mut spec = MemdevSpec::new(kind, name, size);
        spec.mem_path.clone_from(&self.config.mem_path);
        spec.prealloc = self.config.mem_prealloc;
        Ok(self.parts.objects.make_for_machine(spec)?)
    }

    /// The same for a board whose RAM is in several pieces: `None` unless the user says what it is made of; then the
    /// pieces are windows of one block.
    ///
    /// # Errors
    /// As [`machine_ram`](Self::machine_ram).
    pub fn chosen_machine_ram(&mut self, name: &str, size: u64) -> Result<Option<MachineRam>, BoardError> {
        let config = self.config;
        let chosen = config.memory_backend.is_some() || config.mem_path.is_some() || config.mem_prealloc;
        if chosen { self.machine_ram(name, size).map(Some) } else { Ok(None) }
    }

    /// Gives memory devices (`pc-dimm`) the addresses from `base` on, at most `room` bytes: as much as `-m maxmem=` says.
    ///
    /// # Errors
    /// [`BoardError::Object`] if there are too few addresses.
    pub fn device_memory(&mut self, base: u64, room: u64) -> Result<(), BoardError> {
        let asked = self.config.ram_max.map_or(0, |max| max.saturating_sub(self.parts.ram_size));
        if asked > room {
            return Err(ObjectError::MaxTooLarge { asked, room }.into());
        }
        let system = self.memory.system();
        if asked == 0 {
            // No addresses are taken, and a DIMM is told what is missing.
            self.parts.objects.allow_device_memory(system);
            return Ok(());
        }
        Ok(self.parts.objects.set_device_memory(system, base, asked, self.config.ram_slots)?)
    }

    /// Notes the block behind a region.
    ///
    /// # Errors
    /// What the memory says.
    pub fn note_block_of(&mut self, region: RegionId) -> Result<(), MemoryError> {
        if let Some((block, _)) = self.memory.region(region)?.ram {
            self.note_block(&block);
        }
        Ok(())
    }

    /// The CPU, which there is not yet: its place in the object tree, its lines and its address space.
    ///
    /// # Errors
    /// What the memory says.
    pub fn cpu(&mut self, kind: &str, lines: usize) -> Result<Vec<IrqLine>, MemoryError> {
        let owner = self.unattached(kind);
        let lines: Vec<IrqLine> = (0..lines).map(|n| IrqLine::new(format!("cpu.in[{n}]"))).collect();
        self.pins(&owner, PinDirection::In, None, &lines);
        self.parts.cpu_space = Some(self.memory.address_space("cpu-memory-0", self.memory.system())?);
        Ok(lines)
    }

    /// Adds a CPU that runs guest code while the machine runs.
    pub fn run_cpu(&mut self, cpu: impl Into<Box<dyn GuestCpu>>) {
        self.cpus.push(cpu.into());
    }

    /// Whether there is code to run: firmware, flash or a program, and no test driver in the CPU's place.
    pub fn has_code(&self) -> bool {
        !self.config.qtest && (!self.parts.roms.is_empty() || self.config.pflash.is_some())
    }

    /// What the CPUs see: the space `cpu-memory-0` once [`cpu`](Self::cpu) was called.
    pub fn cpu_space(&self) -> AddressSpace {
        self.parts.cpu_space.clone().unwrap_or_else(|| self.memory.memory_space())
    }

    /// The bus of memory-mapped devices that nothing else is the bus of.
    pub fn system_bus(&self) -> BusId {
        BusId(0)
    }

    /// Plugs a device into a bus; `describe` is asked when somebody looks.
    pub fn plug(&mut self, bus: BusId, describe: impl Fn() -> QtreeDevice + Send + Sync + 'static) -> PlugId {
        self.parts.plugs.push(Plug { bus, describe: Box::new(describe) });
        PlugId(self.parts.plugs.len() - 1)
    }

    /// What `info pic` says of an interrupt controller: whole lines. Those added first come first.
    pub fn interrupt_state(&mut self, describe: impl Fn() -> String + Send + Sync + 'static) {
        self.parts.interrupt_states.push(Box::new(describe));
    }

    /// A bus that a plugged device provides.
    pub fn bus(&mut self, provider: PlugId, name: &str, kind: &str) -> BusId {
        let bus = Bus { name: name.to_owned(), kind: kind.to_owned(), provider: Some(provider) };
        self.parts.buses.push(bus);
        BusId(self.parts.buses.len() - 1)
    }

    /// Makes lines of a device reachable by name (qtest, monitors); inputs also appear in the object tree.
    pub fn pins(&mut self, owner: &Owner, direction: PinDirection, name: Option<&str>, lines: &[IrqLine]) {
        if direction == PinDirection::In {
            let node = self.parts.qom.entry(owner.path());
            for _ in lines {
                node.add_numbered(name.unwrap_or("unnamed-gpio-in"), "irq");
            }
        }
        self.parts.pins.push(Pins {
            path: owner.path().to_owned(),
            direction,
            name: name.map(str::to_owned),
            lines: lines.to_vec(),
        });
    }

    /// Lets a system reset reach a device.
    pub fn reset(&mut self, device: &Arc<impl Reset + 'static>) {
        self.parts.resets.push(device.clone());
    }

    /// Loads bytes when the machine starts and at each reset.
    pub fn rom(&mut self, rom: Rom) {
        self.parts.roms.push(rom);
    }

    /// Loads what a file holds; an entry point is kept for the CPU.
    pub fn image(&mut self, image: Image) {
        self.parts.roms.extend(image.roms);
        self.parts.entry = image.entry.or(self.parts.entry);
    }

    /// The CPU model that the user wants. A board that does not ask for it refuses one.
    pub fn cpu_model(&mut self) -> Option<&'a str> {
        self.took_cpu = true;
        self.config.cpu.as_deref()
    }

    /// The RAM disk that the user gives the program. A board that does not ask for it refuses one.
    pub fn initrd(&mut self) -> Option<PathBuf> {
        self.took_initrd = true;
        self.config.initrd.clone()
    }

    /// The file that keeps the NVRAM. A board that does not ask for it refuses one.
    pub fn nvram(&mut self) -> Option<PathBuf> {
        self.took_nvram = true;
        self.config.nvram.clone()
    }

    /// The drives that the user wants on the SCSI bus. A board that does not ask for them refuses any.
    pub(crate) fn scsi_drives(&mut self) -> &'a [DriveConfig] {
        self.took_drives = true;
        &self.config.drives
    }

    /// The drives, to note one in.
    pub(crate) fn drives(&mut self) -> &mut Drives {
        &mut self.parts.drives
    }

    /// Tells the user something that is no error.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.parts.warnings.push(text.into());
    }

    /// Notes how much RAM the machine has, in bytes.
    pub fn set_ram_size(&mut self, size: u64) {
        self.parts.ram_size = size;
    }

    /// The back end of the *n*th serial port with its name; one that discards if the user gave none.
    ///
    /// # Errors
    /// What opening the back end gives.
    pub fn serial(&mut self, n: usize) -> Result<(String, Arc<dyn CharBackend>), BoardError> {
        self.character(format!("serial{n}"), self.config.serials.get(n))
    }

    /// The back end of the *n*th parallel port, which has its name; one that discards if the user gave none.
    ///
    /// # Errors
    /// What opening the back end gives.
    pub fn parallel(&mut self, n: usize) -> Result<Arc<dyn CharBackend>, BoardError> {
        Ok(self.character(format!("parallel{n}"), self.config.parallels.get(n))?.1)
    }

    fn character(
        &mut self,
        name: String,
        asked: Option<&SerialConfig>,
    ) -> Result<(String, Arc<dyn CharBackend>), BoardError> {
        let backend = match asked {
            None | Some(SerialConfig::Spec(CharSpec::None)) => {
                let name = format!("discarding-{name}");
                return Ok((name.clone(), Arc::new(NullBackend::new(name))));
            }
            Some(SerialConfig::Spec(spec)) => spec.open(&name)?,
            Some(SerialConfig::Backend(backend)) => backend.clone(),
        };
        self.parts.backends.push(backend.clone());
        Ok((name, backend))
    }
}
