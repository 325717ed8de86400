//! Slots that are replaced while the guest runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flatview::{DirtyClient, Endianness, Memory, Ops, RamBlock, Region, RegionId};
use flatview_kvm::{KvmMemory, RunGate, Served};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::guest::{Guest, vm};

const SIZE: u64 = 0x1_0000;

extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}

/// A guest that writes pages 4 to 14 of its RAM in turns and never comes out by itself, on a thread of its own.
struct Running {
    memory: Memory,
    _kvm: KvmMemory,
    ram: RegionId,
    block: Arc<RamBlock>,
    device: RegionId,
    stop: Arc<AtomicBool>,
    kicks: Arc<AtomicU64>,
    vcpu: Arc<OnceLock<Mutex<Option<JoinHandle<u64>>>>>,
}

impl Running {
    /// `program` in real mode at 0x1000.
    fn start(program: &[u8], port: Ops) -> Option<Self> {
        let vm = vm()?;
        register_signal_handler(SIGRTMIN(), nothing).unwrap();
        let memory = Memory::new(Endianness::Little);
        let block = RamBlock::anonymous("ram", SIZE).unwrap();
        block.write(0x1000, program).unwrap();
        let ram = memory.add(Region::ram("ram", Arc::clone(&block))).unwrap();
        let device = memory.add(Region::io("device", 0x1000, Ops::new())).unwrap();
        let port = memory.add(Region::io("port", 1, port)).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        memory.map(memory.io(), 0x80, port).unwrap();
        memory.update(|t| t.map_overlap(memory.system(), 0x3000, device, 1)).unwrap();
        memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
        let kicks = Arc::new(AtomicU64::new(0));
        let thread: Arc<OnceLock<Mutex<Option<JoinHandle<u64>>>>> = Arc::default();
        let (kicked, of) = (Arc::clone(&kicks), Arc::clone(&thread));
        let gate = RunGate::new(move || {
            kicked.fetch_add(1, Ordering::Relaxed);
            if let Some(thread) =
                of.get().and_then(|t| t.lock().unwrap().as_ref().map(|t| t.kill(SIGRTMIN())))
            {
                thread.unwrap();
            }
        });
        let builder = KvmMemory::builder(Arc::clone(&vm), &memory, memory.memory_space().id());
        let kvm = builder.io(memory.io_space().id()).gate(Arc::new(gate)).build().unwrap();
        let (bus, vcpu) = (kvm.bus().unwrap(), vm.create_vcpu(0).unwrap());
        let mut guest = Guest { kvm, bus, vcpu };
        guest.start_real_mode(0x1000);
        let Guest { kvm, bus, mut vcpu } = guest;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let running = std::thread::spawn(move || {
            let mut exits = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                match bus.run(&mut vcpu) {
                    Ok(Served::Access(_)) => exits += 1,
                    Ok(Served::Exit(why)) => panic!("exit {why}"),
                    // A kick.
                    Err(error) => assert_eq!(error.errno(), rustix::io::Errno::INTR.raw_os_error()),
                }
            }
            exits
        });
        thread.set(Mutex::new(Some(running))).unwrap();
        Some(Self { memory, ram, block, device, stop, kicks, vcpu: thread, _kvm: kvm })
    }

    /// Has it come out for good; gives the number of its exits for accesses.
    fn end(&self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.vcpu.get().unwrap().lock().unwrap().take().unwrap();
        while !thread.is_finished() {
            thread.kill(SIGRTMIN()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap()
    }

    /// Waits until the guest has written more than it had.
    fn writes_on(&self) -> bool {
        let written = || {
            let mut word = [0; 2];
            self.block.read(0x4000, &mut word).unwrap();
            word
        };
        let (before, began) = (written(), Instant::now());
        while written() == before && began.elapsed() < Duration::from_secs(2) {
            std::thread::yield_now();
        }
        written() != before
    }

    /// Brings what was written since the last time into a copy.
    fn take_into(&self, copy: &mut [u8]) {
        let snapshot =
            self.memory.snapshot_and_clear_dirty(self.ram, 0, SIZE, DirtyClient::MIGRATION).unwrap();
        for run in snapshot.runs() {
            self.block.read(run.start, &mut copy[run.start as usize..run.end as usize]).unwrap();
        }
    }
}

#[test]
fn no_write_is_lost_while_slots_are_split_and_joined_under_a_running_guest() {
    let program = [
        0xbe, 0x00, 0x40, //       mov si, 0x4000
        0xff, 0x04, //       next: inc word [si]
        0x81, 0xc6, 0x00, 0x10, // add si, 0x1000
        0x81, 0xfe, 0x00, 0xf0, // cmp si, 0xf000
        0x75, 0xf4, //             jne next
        0xbe, 0x00, 0x40, //       mov si, 0x4000
        0xeb, 0xef, //             jmp next
    ];
    let Some(running) = Running::start(&program, Ops::new()) else { return };
    // A copy of the memory that is kept by dirty pages only.
    let mut copy = vec![0; SIZE as usize];
    let mut differed = 0;
    for round in 0..300 {
        // The program's own page is in a slot that is replaced, too.
        running.memory.update(|t| t.set_address(running.device, 0x2000 + round % 2 * 0x1000)).unwrap();
        running.take_into(&mut copy);
        // It goes on with the new slots.
        differed += u32::from(running.writes_on());
    }
    running.end();
    running.take_into(&mut copy);
    let mut now = vec![0; SIZE as usize];
    running.block.read(0, &mut now).unwrap();
    let pages = (0..SIZE as usize).step_by(0x1000);
    let different: Vec<_> = pages.filter(|p| copy[*p..p + 0x1000] != now[*p..p + 0x1000]).collect();
    assert!(different.is_empty(), "pages {different:x?} were written and not told");
    assert!(differed > 290, "the guest wrote in {differed} rounds");
    assert!(running.kicks.load(Ordering::Relaxed) >= 100, "it never came out by itself");
}

#[test]
fn a_device_that_moves_memory_on_the_vcpus_own_thread_does_not_wait_for_itself() {
    let program = [
        0xe6, 0x80, //       next: out 0x80, al
        0xff, 0x06, 0, 0x40, //    inc word [0x4000]
        0xeb, 0xf8, //             jmp next
    ];
    let place: Arc<OnceLock<(Memory, RegionId)>> = Arc::default();
    let moved = Arc::new(AtomicU64::new(0));
    let (of, count) = (Arc::clone(&place), Arc::clone(&moved));
    let port = Ops::new().write(move |_, _| {
        if let Some((memory, device)) = of.get() {
            let round = count.fetch_add(1, Ordering::Relaxed);
            memory.update(|t| t.set_address(*device, 0x2000 + round % 2 * 0x1000)).unwrap();
        }
        Ok(())
    });
    let Some(running) = Running::start(&program, port) else { return };
    place.set((running.memory.clone(), running.device)).unwrap();
    // Another thread changes the map meanwhile.
    let runs = || !running.vcpu.get().unwrap().lock().unwrap().as_ref().unwrap().is_finished();
    while moved.load(Ordering::Relaxed) < 50 && runs() {
        running.memory.update(|t| t.set_priority(running.device, 1)).unwrap();
        running
            .memory
            .update(|t| t.set_enabled(running.device, !moved.load(Ordering::Relaxed).is_multiple_of(3)))
            .unwrap();
    }
    assert!(running.end() >= 50);
}
