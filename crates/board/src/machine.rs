//! The machine: memory, devices, time, and what can be asked of them.
//!
//! A [`Machine`] has one thread of its own. Devices and front ends *request* (reset, stop, continue, end) and the thread
//! carries requests out one after the other, in the order in which they came; nothing waits for it unless it asks to.
//! It is no front end: it prints nothing and reads no command line. What must
//! always hold: every change of the run state is an [`Event`] to each subscriber, in one order for all; after a system
//! reset all devices are as at power on, ROM holds what was loaded and RAM what it held.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use flatview::{AddressSpace, Memory, RegionType};
use flatview_device::{Clock, IrqLine, Log, QomNode, QtreeBus};
use parking_lot::{Condvar, Mutex};

use crate::boards::{self, Board};
use crate::builder::BoardBuilder;
use crate::cpus::CpuThread;
use crate::debug::Debugged;
use crate::dirty_rate::DirtyRates;
use crate::dump::{self, Dumps, ElfTarget};
use crate::memdev::{self, MemoryObjects, ObjectError, Properties};
use crate::pace::Pace;
use crate::requests::{Requests, Work};
use crate::run_loop::{Core, Status};
use crate::state::{Cause, Event, EventKind, Request, RunState};
use crate::{
    BoardError, BoardInfo, DirtyRateError, DirtyRateInfo, DirtyRateSpec, DriveError, DriveImage, DriveInfo,
    DumpError, DumpInfo, DumpSpec, MachineConfig, PinDirection, PinError, RamBlockRow, RequestError, RomInfo,
    trace,
};

/// A machine, made and running.
pub struct Machine {
    pub(crate) core: Arc<Core>,
    board: &'static BoardInfo,
    name: Option<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What front ends keep with it.
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("board", &self.board.name).field("state", &self.run_state()).finish()
    }
}

/// What the options about memory come to: the size of RAM that a back end decides, and the DIMMs among the devices.
fn memory_options(
    config: &mut MachineConfig,
    board: &Board,
) -> Result<Vec<(String, memdev::DimmSpec)>, BoardError> {
    if let Some(id) = &config.memory_backend {
        if config.mem_path.is_some() {
            return Err(BoardError::Together { first: "-mem-path", second: "-machine memory-backend" });
        }
        let spec = config.memory_backends.iter().find(|spec| spec.id == *id);
        let backend = spec.ok_or_else(|| ObjectError::NoMemdev(id.clone()))?.size;
        match config.ram_size.filter(|size| *size != 0) {
            Some(machine) if machine != backend => {
                return Err(ObjectError::SizeMismatch { machine, backend }.into());
            }
            _ => config.ram_size = Some(backend),
        }
    }
    let size = config.ram_size.filter(|size| *size != 0).unwrap_or(board.info.default_ram);
    if let Some(max) = config.ram_max {
        if max < size {
            return Err(ObjectError::MaxTooSmall { max, size }.into());
        }
        if max == size && config.ram_slots > 0 {
            return Err(ObjectError::MaxEqual(size).into());
        }
    }
    let mut dimms = Vec::new();
    let mut others = Vec::new();
    for device in std::mem::take(&mut config.devices) {
        let given = Properties::of_text("driver", &device);
        if given.text_of("driver") == Some(memdev::dimm::DRIVER) {
            let spec = memdev::DimmSpec::of(given)
                .map_err(|error| BoardError::Object { origin: format!("-device {device}"), error })?;
            dimms.push((device, spec));
        } else {
            others.push(device);
        }
    }
    config.devices = others;
    Ok(dimms)
}

impl Machine {
    /// Makes a machine of a built-in board and, unless told otherwise, lets it run.
    ///
    /// # Errors
    /// [`BoardError`] tells what cannot be and what would be right.
    pub fn new(config: MachineConfig) -> Result<Arc<Machine>, BoardError> {
        let board = boards::find(&config.board)?;
        Machine::with_board(board, config)
    }

    /// As [`Machine::new`] for a board of your own.
    ///
    /// # Errors
    /// What the board says.
    pub fn with_board(board: &'static Board, config: MachineConfig) -> Result<Arc<Machine>, BoardError> {
        let mut config = config;
        let dimms = memory_options(&mut config, board)?;
        let config = config;
        if config.kernel.is_none() {
            let given =
                [("-append", !config.kernel_arguments.is_empty()), ("-initrd", config.initrd.is_some())];
            if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(BoardError::WithoutKernel(option));
            }
        }
        let requests = Arc::new(Requests::default());
        let mut builder = BoardBuilder::new(&config, board.info.name, board.target, requests.clone());
        for spec in &config.memory_backends {
            let origin = || format!("-object {},id={}", spec.kind.name(), spec.id);
            let failed = |error| match error {
                ObjectError::DuplicateObject(id) => BoardError::DuplicateObject(id),
                error => BoardError::Object { origin: origin(), error },
            };
            builder.objects().add(spec.clone()).map_err(failed)?;
        }
        (board.build)(&mut builder)?;
        builder.check_taken(board.info.name)?;
        for (origin, spec) in dimms {
            let plugged = builder.objects().plug(&spec, false);
            plugged.map_err(|error| BoardError::Object { origin: format!("-device {origin}"), error })?;
        }
        let (memory, clock, parts, mut cpus) = builder.finish();
        let mut pace = None;
        if let Some(icount) = config.icount {
            if config.qtest {
                return Err(BoardError::Together { first: "-icount", second: "-qtest" });
            }
            match (cpus.as_mut_slice(), clock.executed()) {
                ([cpu], Some(executed)) => cpu.count_for(executed),
                (cpus, _) => return Err(BoardError::Icount { board: board.info.name, cpus: cpus.len() }),
            }
            pace = Some(Pace::new(icount, &clock));
        }
        let cpus = cpus.into_iter().zip(0..).map(|(mut cpu, number)| {
            cpu.set_log(&config.log, number);
            let requests = Arc::clone(&requests);
            CpuThread::new(cpu, number, pace.take(), move || requests.cpu_stopped(number))
        });
        let cpus: Vec<CpuThread> = cpus.collect::<Result<_, _>>().map_err(BoardError::Thread)?;
        let brakes: Vec<_> = cpus.iter().map(CpuThread::brake).collect();
        requests.set_brake(move || brakes.iter().for_each(|brake| brake()));
        trace::follow(&config.log, &memory, cpus.iter().map(CpuThread::inputs).collect());
        if clock.is_counted() {
            let inputs: Vec<_> = cpus.iter().map(CpuThread::inputs).collect();
            clock.set_waker(move || inputs.iter().for_each(|inputs| inputs.stop()));
        } else {
            let looker = Arc::downgrade(&requests);
            clock.set_waker(move || {
                if let Some(requests) = looker.upgrade() {
                    requests.look();
                }
            });
        }
        let run_state = if config.start_stopped { RunState::Prelaunch } else { RunState::Running };
        let core = Arc::new(Core {
            memory,
            clock,
            parts,
            cpus,
            log: config.log.clone(),
            elf_target: ElfTarget { machine: board.elf_machine, order: board.target },
            no_reboot: config.no_reboot,
            no_shutdown: config.no_shutdown,
            requests,
            dumps: Dumps::default(),
            dirty_rate: DirtyRates::default(),
            debugged: Debugged::default(),
            status: Mutex::new(Status {
                run_state,
                debug_stop: None,
                quiet: false,
                subscribers: Vec::new(),
                exit: None,
            }),
            ended: Condvar::new(),
        });
        core.reset();
        if run_state.is_running() {
            core.go_on();
        }
        let runner = core.clone();
        let thread = std::thread::Builder::new()
            .name("machine".to_owned())
            .spawn(move || runner.run())
            .map_err(BoardError::Thread)?;
        Ok(Arc::new(Machine {
            core,
            board: &board.info,
            name: config.name,
            thread: Mutex::new(Some(thread)),
            kept: Mutex::default(),
        }))
    }

    /// The drives, as they are now.
    pub fn drives(&self) -> Vec<DriveInfo> {
        self.core.parts.drives.infos()
    }

    /// Opens a drive's tray and takes the medium out; `force` does so although the guest prevents it.
    ///
    /// # Errors
    /// [`DriveError`]: there is no such drive, its medium stays, or the guest holds it.
    pub fn eject(&self, name: &str, force: bool) -> Result<(), DriveError> {
        self.core.parts.drives.eject(name, force)
    }

    /// Puts another medium into a drive.
    ///
    /// # Errors
    /// As [`eject`](Self::eject), and what is wrong with the image; what was in the drive stays then.
    pub fn change_medium(&self, name: &str, image: &DriveImage, force: bool) -> Result<(), DriveError> {
        self.core.parts.drives.change(name, image, force)
    }

    /// The boards there are.
    pub fn boards() -> &'static [BoardInfo] {
        boards::infos()
    }

    /// What `-cpu` takes, on boards that have a choice.
    pub fn cpu_models() -> Vec<boards::CpuModelInfo> {
        boards::cpu_models()
    }

    /// The log of the guest's doings (`-d`, `-trace`), which can be asked for more or less while the machine runs.
    pub fn log(&self) -> &Log {
        &self.core.log
    }

    /// What `-device` takes: names with one line each.
    pub fn device_kinds() -> &'static [(&'static str, &'static str)] {
        boards::DEVICE_KINDS
    }

    /// The text of `-device pc-dimm,help`.
    pub fn dimm_help() -> String {
        let mut text = format!("{} options:\n", memdev::dimm::DRIVER);
        for (name, takes, help) in memdev::dimm::PROPERTIES {
            let left = format!("{name}=<{takes}>");
            text.push_str(&format!("  {left:<22} - {help}\n"));
        }
        text
    }

    /// What the user should know and is no error.
    pub fn warnings(&self) -> Vec<String> {
        self.core.parts.warnings.clone()
    }

    /// The machine's memory.
    pub fn memory(&self) -> &Memory {
        &self.core.memory
    }

    /// Something of a front end's that there is once for the machine, made when it is first asked for.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut kept = self.kept.lock();
        if let Some(found) = kept.iter().find_map(|any| Arc::clone(any).downcast::<T>().ok()) {
            return found;
        }
        let made = Arc::new(make());
        kept.push(made.clone());
        made
    }

    /// What `info registers` prints of each CPU, which stands still for a moment; nothing if there is none that runs.
    pub fn registers(&self) -> Vec<String> {
        let text = |cpu: &CpuThread| cpu.hold().cpu().map(|cpu| cpu.registers());
        self.core.cpus.iter().filter_map(text).collect()
    }

    /// Whether there is a CPU that runs guest code.
    pub fn has_cpu(&self) -> bool {
        !self.core.cpus.is_empty()
    }

    /// The physical address behind a virtual one, as loads of the first CPU see it now; without a CPU the same address.
    pub fn translate(&self, va: u64) -> Option<u64> {
        match self.core.cpus.first() {
            Some(cpu) => cpu.hold().cpu().and_then(|cpu| cpu.physical(va)),
            None => Some(va),
        }
    }

    /// How many guest instructions were done since the machine was made.
    pub fn instructions(&self) -> u64 {
        let of = |cpu: &CpuThread| cpu.hold().cpu().map_or(0, |cpu| cpu.instructions());
        self.core.cpus.iter().map(of).sum()
    }

    /// What the CPU sees: the space `cpu-memory-0`.
    pub fn cpu_space(&self) -> AddressSpace {
        self.core.parts.cpu_space.clone().unwrap_or_else(|| self.core.memory.memory_space())
    }

    /// The space `I/O`.
    pub fn io_space(&self) -> AddressSpace {
        self.core.memory.io_space()
    }

    /// The name the user gave.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its board.
    pub fn board(&self) -> &BoardInfo {
        self.board
    }

    /// Bytes of RAM.
    pub fn ram_size(&self) -> u64 {
        self.core.parts.ram_size
    }

    /// Where the loaded program starts, if a file said so.
    pub fn entry(&self) -> Option<u64> {
        self.core.parts.entry
    }

    /// What it is doing.
    pub fn run_state(&self) -> RunState {
        self.core.status.lock().run_state
    }

    /// Asks for something. Never blocks; safe from inside an access.
    pub fn request(&self, request: Request) {
        self.core.requests.push(request);
    }

    /// Asks for something and waits until it was carried out. Not from inside an access, which would wait for itself.
    ///
    /// # Errors
    /// [`RequestError`] if it was refused, or the machine has quit before it came to it.
    pub fn perform(&self, request: Request) -> Result<(), RequestError> {
        self.core.perform(Work::Request(request))
    }

    /// All events from now on; the channel closes when the machine has quit.
    pub fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        let mut status = self.core.status.lock();
        if status.exit.is_none() {
            status.subscribers.push(sender);
        }
        receiver
    }

    /// Waits until the machine has quit; the program's exit status.
    pub fn wait(&self) -> i32 {
        let mut status = self.core.status.lock();
        loop {
            if let Some(exit) = status.exit {
                return exit;
            }
            self.core.ended.wait(&mut status);
        }
    }

    /// Whether it has quit.
    pub fn has_quit(&self) -> bool {
        self.core.status.lock().exit.is_some()
    }

    /// The state of the interrupt controllers, for `info pic`; empty if the board has none that tells.
    pub fn interrupt_state(&self) -> String {
        self.core.parts.interrupt_state()
    }

    /// The picture for `info qtree`.
    pub fn qtree(&self) -> QtreeBus {
        self.core.parts.qtree()
    }

    /// The object tree without regions and memory devices; [`qom`](Self::qom) adds those.
    pub(crate) fn qom_of_devices(&self) -> &QomNode {
        &self.core.parts.qom
    }

    /// What is loaded at each reset, by address.
    pub fn roms(&self) -> Vec<RomInfo> {
        let memory = &self.core.memory;
        let mut roms: Vec<RomInfo> = self
            .core
            .parts
            .roms
            .iter()
            .map(|rom| {
                let there = memory.find(memory.system(), rom.addr, 1).ok().flatten();
                let kind =
                    there.and_then(|section| memory.region(section.region).ok()).map(|region| region.kind);
                let is_rom = matches!(kind, Some(RegionType::Rom | RegionType::Romd));
                RomInfo { addr: rom.addr, size: rom.data.len() as u64, is_rom, name: rom.name.clone() }
            })
            .collect();
        roms.sort_by_key(|rom| rom.addr);
        roms
    }

    /// The lines of `info ramblock`, in its order.
    pub fn ram_blocks(&self) -> Vec<RamBlockRow> {
        self.core.parts.objects.ram_blocks()
    }

    /// Memory back ends and memory devices.
    pub fn objects(&self) -> &MemoryObjects {
        &self.core.parts.objects
    }

    /// Adds a device while the machine runs (QEMU: `device_add`): `driver=pc-dimm` and its properties.
    ///
    /// # Errors
    /// [`ObjectError`] in QEMU's words.
    pub fn device_add(&self, given: Properties) -> Result<(), ObjectError> {
        match given.text_of("driver") {
            None => Err(ObjectError::Missing("driver")),
            Some(memdev::dimm::DRIVER) => {
                let spec = memdev::DimmSpec::of(given)?;
                self.core.parts.objects.plug(&spec, true)
            }
            // The boards' other devices stand on the ISA bus.
            Some(known) if boards::DEVICE_KINDS.iter().any(|(name, _)| *name == known) => {
                Err(ObjectError::NoHotplug("isa.0"))
            }
            Some(other) => Err(ObjectError::NoDriver(other.to_owned())),
        }
    }

    /// Removes a device by its name or its path in the object tree (QEMU: `device_del`); subscribers are told.
    ///
    /// # Errors
    /// [`ObjectError::NoDevice`].
    pub fn device_del(&self, id: &str) -> Result<(), ObjectError> {
        let name = id.strip_prefix("/machine/peripheral/").unwrap_or(id);
        self.core.parts.objects.unplug(name).map_err(|e| match e {
            ObjectError::NoDevice(_) => ObjectError::NoDevice(id.to_owned()),
            e => e,
        })?;
        let path = format!("/machine/peripheral/{name}").into();
        self.core.tell(EventKind::DeviceDeleted { device: Some(name.into()), path });
        Ok(())
    }

    /// Writes the guest's memory to a file (QEMU: `dump-guest-memory`). The machine stands still meanwhile, and
    /// subscribers are told when it is done. Not from inside an access.
    ///
    /// # Errors
    /// [`DumpError`]: what was asked for cannot be, or the file cannot be written; detached, what goes wrong while it
    /// is written is told by the event and by [`dump_info`](Self::dump_info).
    pub fn dump(&self, spec: &DumpSpec) -> Result<(), DumpError> {
        dump::dump(&self.core, spec)
    }

    /// How far the last dump is.
    pub fn dump_info(&self) -> DumpInfo {
        self.core.dumps.info()
    }

    /// Why the last dump failed, if it did.
    pub fn dump_error(&self) -> Option<Arc<str>> {
        self.core.dumps.error()
    }

    /// Waits until no dump is being written. Not from inside an access.
    pub fn wait_for_dump(&self) {
        self.core.dumps.wait();
    }

    /// Begins to measure how fast memory is written (QEMU: `calc-dirty-rate`), in a thread of its own.
    ///
    /// # Errors
    /// [`DirtyRateError`] in QEMU's words.
    pub fn calc_dirty_rate(&self, spec: &DirtyRateSpec) -> Result<(), DirtyRateError> {
        self.core.dirty_rate.start(&self.core.memory, spec)
    }

    /// The last measurement.
    pub fn dirty_rate(&self) -> DirtyRateInfo {
        self.core.dirty_rate.info()
    }

    /// Whether an open file is memory of this machine: the name of the block. Who empties or writes such a file takes
    /// the memory away.
    pub fn block_of_file(&self, file: &std::fs::File) -> Option<String> {
        self.core.parts.objects.block_of_file(file)
    }

    /// The picture for `info qom-tree /objects`: memory back ends and their regions.
    pub fn object_tree(&self) -> QomNode {
        let mut root = QomNode::new("objects", "container");
        for memdev in self.core.parts.objects.memdevs() {
            let node = root.entry(&format!("/objects/{}", memdev.spec.id));
            node.kind = memdev.spec.kind.name().to_owned();
            node.add_numbered(&memdev.spec.id, "memory-region");
        }
        root
    }

    /// Virtual time.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Lines of a device: `path` is a whole path of the object tree or its end, if only one device has that end.
    ///
    /// # Errors
    /// [`PinError`] tells which devices or lines there are instead.
    pub fn irq_pins(
        &self,
        path: &str,
        direction: PinDirection,
        name: Option<&str>,
    ) -> Result<Vec<IrqLine>, PinError> {
        let path = self.resolve(path)?;
        let of_device =
            || self.core.parts.pins.iter().filter(|pins| pins.path == path && pins.direction == direction);
        if let Some(pins) = of_device().find(|pins| pins.name.as_deref() == name) {
            return Ok(pins.lines.clone());
        }
        let known: Vec<String> = of_device()
            .map(|pins| format!("'{}' ({})", pins.name.as_deref().unwrap_or("unnamed"), pins.lines.len()))
            .collect();
        Err(PinError::NoSuchPins {
            path,
            direction: if direction == PinDirection::In { "input" } else { "output" },
            name: name.unwrap_or("unnamed").to_owned(),
            known: if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) },
        })
    }

    fn resolve(&self, path: &str) -> Result<String, PinError> {
        let paths = self.core.parts.qom.paths();
        if path.starts_with('/') {
            let found = paths.iter().any(|candidate| candidate == path);
            return if found {
                Ok(path.to_owned())
            } else {
                Err(PinError::NoSuchDevice { path: path.to_owned() })
            };
        }
        let tail = format!("/{path}");
        let mut fitting = paths.into_iter().filter(|candidate| candidate.ends_with(&tail));
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(PinError::NoSuchDevice { path: path.to_owned() }),
            (Some(only), None) => Ok(only),
            (Some(first), Some(second)) => {
                let candidates: Vec<String> = [first, second].into_iter().chain(fitting).collect();
                Err(PinError::Ambiguous { path: path.to_owned(), candidates: candidates.join(" or ") })
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.request(Request::Quit(Cause::HostQmpQuit));
        // The last handle may be dropped by the machine's own thread, which cannot wait for itself.
        if let Some(thread) =
            self.thread.lock().take().filter(|t| t.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}
