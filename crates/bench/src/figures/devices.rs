//! The way to a device's callback.

use std::sync::Arc;

use flatview::{AccessRules, Be, DeviceEndian, Endianness, Le, Memory, Ops, RamBlock, Reader, Region};

use super::ram::raw_same;
use crate::error::BenchError;
use crate::limits::{OURS, TABLE};
use crate::maps::{Devices, Ram};
use crate::measure::{Contender, Dice, Plan};
use crate::peers::raw::RawRam;
use crate::peers::{cloud_hypervisor, crosvm, openvmm};
use crate::run::Run;

/// One device, or random ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Same,
    Random,
}

impl Which {
    /// Among how many devices addresses are drawn.
    pub fn among(self, devices: &Devices) -> u64 {
        if self == Self::Same { 1 } else { devices.count }
    }
}

#[inline(never)]
pub(super) fn ours(devices: &Devices, reader: &Reader, among: u64, ops: u64, seed: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let mut sum = 0_u64;
    for _ in 0..ops {
        let value: u32 = reader.load::<Le, u32>(devices.address(dice.below(among))).unwrap_or(0);
        sum = sum.wrapping_add(u64::from(value));
    }
    sum
}

#[inline(never)]
pub(super) fn table(devices: &Devices, among: u64, ops: u64, seed: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let mut sum = 0_u64;
    for _ in 0..ops {
        sum = sum.wrapping_add(devices.table.read(devices.address(dice.below(among)), 4));
    }
    sum
}

/// Reads of four bytes through a bus that fills a slice.
#[inline]
fn bus(devices: &Devices, among: u64, ops: u64, seed: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> u64 {
    let mut dice = Dice::new(seed);
    let mut sum = 0_u64;
    for _ in 0..ops {
        let mut data = [0; 4];
        if read(devices.address(dice.below(among)), &mut data) {
            sum = sum.wrapping_add(u64::from(u32::from_le_bytes(data)));
        }
    }
    sum
}

#[inline(never)]
pub(super) fn via_crosvm(b: &crosvm::Bus, devices: &Devices, among: u64, ops: u64, seed: u64) -> u64 {
    bus(devices, among, ops, seed, |addr, data| b.read(addr, data))
}

#[inline(never)]
pub(super) fn via_ch(b: &cloud_hypervisor::Bus, devices: &Devices, among: u64, ops: u64, seed: u64) -> u64 {
    bus(devices, among, ops, seed, |addr, data| b.read(addr, data))
}

#[inline(never)]
pub(super) fn via_openvmm(b: &openvmm::Bus, devices: &Devices, among: u64, ops: u64, seed: u64) -> u64 {
    bus(devices, among, ops, seed, |addr, data| b.read(addr, data))
}

/// How far apart devices are: name and power of two.
const STRIDES: [(&str, u32); 3] = [("32B", 5), ("4KiB", 12), ("1GiB", 30)];

/// The ways to the same devices.
struct Sides<'d> {
    devices: &'d Devices,
    reader: Reader,
    crosvm: Option<crosvm::Bus>,
    /// With what keeps the devices, to which this bus and the next one have weak references.
    cloud_hypervisor: Option<(cloud_hypervisor::Bus, Vec<Arc<dyn cloud_hypervisor::BusDeviceSync>>)>,
    openvmm: Option<(openvmm::Bus, Vec<openvmm::SharedDevice>)>,
}

impl<'d> Sides<'d> {
    fn of(devices: &'d Devices, with_peers: bool, locked: bool) -> Self {
        let all = with_peers && locked;
        Self {
            devices,
            reader: devices.reader(),
            crosvm: with_peers.then(|| devices.crosvm(locked)),
            cloud_hypervisor: all.then(|| devices.cloud_hypervisor()),
            openvmm: all.then(|| devices.openvmm()),
        }
    }

    fn contenders<'a>(&'a self, raw: &'a RawRam, which: Which) -> Vec<Contender<'a>> {
        let Self { devices, reader, .. } = self;
        let among = which.among(devices);
        let mut contenders = vec![
            raw_same(raw),
            Contender::new(TABLE, move |ops, seed| table(devices, among, ops, seed)),
            Contender::new(OURS, move |ops, seed| ours(devices, reader, among, ops, seed)),
        ];
        if let Some(b) = &self.crosvm {
            let batch = move |ops, seed| via_crosvm(b, devices, among, ops, seed);
            contenders.push(Contender::new("crosvm", batch));
        }
        if let Some((b, _keep)) = &self.cloud_hypervisor {
            let batch = move |ops, seed| via_ch(b, devices, among, ops, seed);
            contenders.push(Contender::new("cloud-hypervisor", batch));
        }
        if let Some((b, _keep)) = &self.openvmm {
            let batch = move |ops, seed| via_openvmm(b, devices, among, ops, seed);
            contenders.push(Contender::new("openvmm", batch));
        }
        contenders
    }
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = Ram::new(1)?;
    let raw = &ram.raw;
    for (kind, locked) in [("lock-free", false), ("mutex", true)] {
        for count in [8, 32, 128, 1_000, 10_000] {
            for (stride, shift) in STRIDES {
                let name = |which| format!("mmio/{kind}/{which}/{count}/{stride}");
                let figures = [("same", Which::Same), ("random", Which::Random)];
                if !run.wants_any(&figures.map(|(which, _)| name(which))) {
                    continue;
                }
                // Many devices and what readers know of them take most of a cache, by where they happen to be in memory.
                let sets = if count < 10_000 { 1 } else { 3 };
                let sets = (0..sets).map(|_| Devices::new(count, shift, locked));
                let sets = sets.collect::<Result<Vec<Devices>, BenchError>>()?;
                // The peers do not differ by the distance of devices.
                let with_peers = stride == "4KiB";
                let sides: Vec<Sides<'_>> = sets.iter().map(|d| Sides::of(d, with_peers, locked)).collect();
                for (which_name, which) in figures {
                    let figure = name(which_name);
                    if !run.wants(&figure) {
                        continue;
                    }
                    let contenders = sides.iter().map(|sides| sides.contenders(raw, which)).collect();
                    let plan = if count < 1_000 || which == Which::Same { Plan::QUICK } else { Plan::WARM };
                    run.races(&figure, contenders, &[(OURS, TABLE)], plan)?;
                }
            }
        }
    }
    shapes(run, &ram)
}

type Load<'a> = Box<dyn Fn(u64) -> u64 + 'a>;

/// Accesses that are split, widened, swapped, or go to RAM and devices in turn.
fn shapes(run: &mut Run, ram: &Ram) -> Result<(), BenchError> {
    let memory = Memory::new(Endianness::Little);
    let answer = || Ops::new().read(|access| Ok(access.offset() * 3 + 1)).write(|_, _| Ok(()));
    let devices = [
        ("plain", AccessRules::new().valid(1, 8).implemented(1, 8)),
        ("narrow", AccessRules::new().valid(1, 8).implemented(1, 1)),
        ("wide", AccessRules::new().valid(1, 8).implemented(4, 4)),
        ("big", AccessRules::new().valid(1, 8).implemented(1, 8).endian(DeviceEndian::Big)),
    ];
    for (i, (name, rules)) in (0..).zip(devices) {
        let region = memory.add(Region::io(name, 4096, answer().rules(rules)))?;
        memory.map(memory.system(), 0x10_0000 + i * 4096, region)?;
    }
    let low = memory.add(Region::ram("low", RamBlock::anonymous("low", 0x10_0000)?))?;
    memory.map(memory.system(), 0, low)?;
    let reader = &memory.memory_space().reader();
    let (plain, narrow, wide, big) = (0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000);
    let sum = |ops: u64, load: &dyn Fn(u64) -> u64| (0..ops).fold(0, |s: u64, i| s.wrapping_add(load(i & 7)));
    let load8 = |addr| reader.load::<Le, u64>(addr).unwrap_or(0);
    let load4 = |addr| u64::from(reader.load::<Le, u32>(addr).unwrap_or(0));
    let load1 = |addr| u64::from(reader.load::<Le, u8>(addr).unwrap_or(0));
    let loads: [(&str, Load<'_>); 7] = [
        ("shape/4 plain", Box::new(move |i| load4(plain + i * 4))),
        ("shape/8 plain", Box::new(move |i| load8(plain + i * 8))),
        ("shape/8 split in eight", Box::new(move |i| load8(narrow + i * 8))),
        ("shape/8 split in two", Box::new(move |i| load8(wide + i * 8))),
        ("shape/1 widened to four", Box::new(move |i| load1(wide + i * 4))),
        (
            "shape/4 big-endian",
            Box::new(move |i| u64::from(reader.load::<Be, u32>(big + i * 4).unwrap_or(0))),
        ),
        (
            "shape/4 RAM and device in turn",
            Box::new(move |i| if i & 1 == 0 { load4(i * 4) } else { load4(plain + i * 4) }),
        ),
    ];
    for (figure, load) in &loads {
        if run.wants(figure) {
            let ours = Contender::apart(OURS, |ops, _| sum(ops, load));
            run.race(figure, vec![raw_same(&ram.raw), ours], &[], Plan::QUICK)?;
        }
    }
    if run.wants("shape/4 nothing there") {
        let nothing = |ops: u64, _| {
            (0..ops).filter(|i| reader.load::<Le, u32>((1 << 32) + (i & 7) * 4).is_err()).count() as u64
        };
        let contenders = vec![raw_same(&ram.raw), Contender::apart(OURS, nothing)];
        run.race("shape/4 nothing there", contenders, &[], Plan::QUICK)?;
    }
    Ok(())
}
