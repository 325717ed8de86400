//! What a region is made from, and what can be asked about it.

use std::fmt;
use std::sync::Arc;

use crate::iommu::{IntoIommuOps, IommuRegion};
use crate::listen::RegionIo;
use crate::ram::{RamBlock, RamDeviceOps};
use crate::{AccessRules, DeviceEndian, Endianness, MmioOps, RegionId};

/// The types that `info mtree` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegionType {
    /// `i/o`: MMIO, IOMMUs, reservations, containers.
    Io,
    /// `ram`
    Ram,
    /// `rom`
    Rom,
    /// `romd`: a ROM device in ROM mode.
    Romd,
    /// `ramd`: a RAM device.
    Ramd,
}

impl fmt::Display for RegionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Io => "i/o",
            Self::Ram => "ram",
            Self::Rom => "rom",
            Self::Romd => "romd",
            Self::Ramd => "ramd",
        })
    }
}

/// Who a region belongs to: a device or another object of the machine (QEMU: the owner, a QOM object).
///
/// A cheap handle; two owners are equal if they are the same one. The device's identity is what the guard against
/// re-entry goes by.
#[derive(Clone)]
pub struct Owner(Arc<OwnerInner>);

struct OwnerInner {
    device: bool,
    id: Option<String>,
    path: String,
}

impl Owner {
    fn new(device: bool, id: Option<String>, path: String) -> Self {
        Self(Arc::new(OwnerInner { device, id, path }))
    }

    /// A device at a QOM path, such as `/machine/unattached/device[3]`.
    pub fn device(path: impl Into<String>) -> Self {
        Self::new(true, None, path.into())
    }

    /// A device that the user gave an id.
    pub fn device_with_id(id: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(true, Some(id.into()), path.into())
    }

    /// Some other object, such as a memory back end.
    pub fn object(path: impl Into<String>) -> Self {
        Self::new(false, None, path.into())
    }

    /// Whether it is a device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.0.device
    }

    /// The user's id, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// The QOM path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Owner {}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", self.id().unwrap_or(self.path()))
    }
}

/// Device callbacks, given by value, in an `Arc`, or as a trait object.
pub trait IntoOps {
    /// The same, shared.
    fn into_ops(self) -> Arc<dyn MmioOps>;
}

impl<T: MmioOps + 'static> IntoOps for T {
    fn into_ops(self) -> Arc<dyn MmioOps> {
        Arc::new(self)
    }
}

impl<T: MmioOps + 'static> IntoOps for Arc<T> {
    fn into_ops(self) -> Arc<dyn MmioOps> {
        self
    }
}

impl IntoOps for Arc<dyn MmioOps> {
    fn into_ops(self) -> Arc<dyn MmioOps> {
        self
    }
}

/// What answers where a region is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: only what is mapped in it.
    Container,
    /// Nothing: it shows a part of its target.
    Alias,
    /// A block.
    Ram,
    /// A block and callbacks.
    RomDevice,
    /// A block that is a device's: callbacks access it with the access's own size, and nobody else.
    RamDevice,
    /// Callbacks.
    Io,
    /// Whatever is where accesses are sent on to.
    Iommu,
    /// Everything is rejected.
    Reservation,
    /// A type without a store.
    Sketch(RegionType),
}

impl Kind {
    pub fn terminates(self) -> bool {
        !matches!(self, Self::Container | Self::Alias)
    }

    pub fn has_block(self) -> bool {
        matches!(self, Self::Ram | Self::RomDevice | Self::RamDevice)
    }
}

/// What an access must know of a region, and its views show; never changed, only replaced. Views hold it, so it outlives the region's removal while it is in use.
///
/// In this order: what an access looks at first, so that it lies together. Every region has one: what few have is
/// in [`Rare`].
#[repr(C)]
pub(crate) struct Body {
    ops: Option<Arc<dyn MmioOps>>,
    pub owner: Option<Owner>,
    pub id: RegionId,
    pub rules: AccessRules,
    /// The device's byte order on this target.
    pub order: Endianness,
    pub kind: Kind,
    /// Whether the guard against re-entry goes by the owner.
    guarded: bool,
    pub name: Arc<str>,
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Body>() == 72);

/// What only some regions have.
struct Rare {
    block: Option<Arc<RamBlock>>,
    /// Of the region's first byte in the block.
    offset: u64,
    parent: Option<Owner>,
    /// What an access asks before it reaches the device.
    io: Option<Arc<RegionIo>>,
    iommu: Option<Arc<IommuRegion>>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.id, self.name)
    }
}

impl Body {
    /// `rules` are the callbacks' (asked for beforehand: that is the device's own code).
    pub fn new(id: RegionId, region: Region, rules: AccessRules, target: Endianness) -> Self {
        let Region { name, kind, ops, iommu, block, offset, owner, parent, reentrant, .. } = region;
        // QEMU guards plain I/O of devices only.
        let plain = matches!(kind, Kind::Io | Kind::Reservation);
        let guarded = plain && !reentrant && owner.as_ref().is_some_and(Owner::is_device);
        let any = block.is_some() || parent.is_some() || iommu.is_some();
        let rare = any.then(|| Box::new(Rare { block, offset, parent, io: None, iommu }));
        let order = rules.device_endian().resolve(target);
        Self { ops, owner, id, rules, order, kind, guarded, name, rare }
    }

    /// The callbacks.
    #[inline]
    pub fn ops(&self) -> Option<&(dyn MmioOps + 'static)> {
        self.ops.as_deref()
    }

    /// The block of a RAM kind, and the offset of the region's first byte in it.
    pub fn block(&self) -> Option<(&Arc<RamBlock>, u64)> {
        let rare = self.rare.as_deref()?;
        Some((rare.block.as_ref()?, rare.offset))
    }

    /// The same, if the memory may be reached by pointer, for loads and stores or for looking: not a RAM device's.
    pub fn direct_block(&self) -> Option<(&Arc<RamBlock>, u64)> {
        if self.kind == Kind::RamDevice { None } else { self.block() }
    }

    /// The QOM parent, where that is not the owner.
    pub fn parent(&self) -> Option<&Owner> {
        self.rare.as_deref()?.parent.as_ref()
    }

    /// Its ioeventfds and coalesced ranges, if it has any.
    #[inline]
    pub fn io(&self) -> Option<&Arc<RegionIo>> {
        self.rare.as_deref()?.io.as_ref()
    }

    /// What it has as an IOMMU, if it is one.
    #[inline]
    pub fn iommu(&self) -> Option<&Arc<IommuRegion>> {
        self.rare.as_deref()?.iommu.as_ref()
    }

    /// The same with other ioeventfds and coalesced ranges.
    pub fn with_io(&self, io: Option<Arc<RegionIo>>) -> Self {
        let block = self.block().map(|(block, _)| Arc::clone(block));
        let offset = self.block().map_or(0, |(_, offset)| offset);
        let parent = self.parent().cloned();
        let iommu = self.iommu().cloned();
        let any = block.is_some() || parent.is_some() || io.is_some() || iommu.is_some();
        Self {
            ops: self.ops.clone(),
            owner: self.owner.clone(),
            name: Arc::clone(&self.name),
            rare: any.then(|| Box::new(Rare { block, offset, parent, io, iommu })),
            ..*self
        }
    }

    /// The device by which the guard against re-entry goes.
    #[inline]
    pub fn guarded_by(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|_| self.guarded)
    }
}

/// What a region is made from; give it to [`Transaction::add`](crate::Transaction::add).
///
/// Sizes are in bytes, from 0 to 2^64 ([`WHOLE`](crate::WHOLE)).
#[must_use]
pub struct Region {
    pub(crate) name: Arc<str>,
    pub(crate) size: Option<u128>,
    pub(crate) kind: Kind,
    pub(crate) ops: Option<Arc<dyn MmioOps>>,
    pub(crate) iommu: Option<Arc<IommuRegion>>,
    /// Of the RAM kinds.
    pub(crate) block: Option<Arc<RamBlock>>,
    /// Of the region's first byte in the block.
    pub(crate) offset: u64,
    pub(crate) alias: Option<(RegionId, u64)>,
    pub(crate) window: Option<(u64, u64)>,
    pub(crate) owner: Option<Owner>,
    pub(crate) parent: Option<Owner>,
    pub(crate) enabled: bool,
    pub(crate) readonly: bool,
    pub(crate) nonvolatile: bool,
    pub(crate) reentrant: bool,
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Region {
    fn new(name: impl Into<String>, size: Option<u128>, kind: Kind) -> Self {
        Self {
            name: name.into().into(),
            size,
            kind,
            ops: None,
            iommu: None,
            block: None,
            offset: 0,
            alias: None,
            window: None,
            owner: None,
            parent: None,
            enabled: true,
            readonly: false,
            nonvolatile: false,
            reentrant: false,
        }
    }

    /// A region that shows only what is mapped in it (QEMU: `memory_region_init`).
    pub fn container(name: impl Into<String>, size: u128) -> Self {
        Self::new(name, Some(size), Kind::Container)
    }

    fn with_ops(mut self, ops: impl IntoOps) -> Self {
        self.ops = Some(ops.into_ops());
        self
    }

    fn with_block(mut self, block: impl Into<Arc<RamBlock>>) -> Self {
        self.block = Some(block.into());
        self
    }

    /// A region of device callbacks (QEMU: `memory_region_init_io`).
    pub fn io(name: impl Into<String>, size: u128, ops: impl IntoOps) -> Self {
        Self::new(name, Some(size), Kind::Io).with_ops(ops)
    }

    /// A region that takes its place and rejects every access (QEMU: `memory_region_init_io` without ops).
    pub fn reservation(name: impl Into<String>, size: u128) -> Self {
        Self::new(name, Some(size), Kind::Reservation)
    }

    /// RAM (QEMU: `memory_region_init_ram` and its kin): the whole block, unless [`window`](Self::window) or
    /// [`size`](Self::size) says otherwise.
    pub fn ram(name: impl Into<String>, block: impl Into<Arc<RamBlock>>) -> Self {
        Self::new(name, None, Kind::Ram).with_block(block)
    }

    /// ROM (QEMU: `memory_region_init_rom`): as RAM, but writes from the bus are decode errors and a CPU's stores
    /// are dropped. Loaders write it with [`poke`](crate::Reader::poke) or through the block.
    pub fn rom(name: impl Into<String>, block: impl Into<Arc<RamBlock>>) -> Self {
        let mut region = Self::ram(name, block);
        region.readonly = true;
        region
    }

    /// A ROM device (QEMU: `memory_region_init_rom_device`): reads come from the block at RAM speed, writes go to
    /// the callbacks; with its ROM mode off ([`set_romd`](crate::Transaction::set_romd)) reads do too.
    pub fn rom_device(name: impl Into<String>, block: impl Into<Arc<RamBlock>>, ops: impl IntoOps) -> Self {
        Self::new(name, None, Kind::RomDevice).with_block(block).with_ops(ops)
    }

    /// A device's memory on the host, such as a mapped PCI BAR (QEMU: `memory_region_init_ram_device_ptr`): each access of
    /// 1, 2, 4 or 8 bytes, at any alignment, reaches it as one access of that size, never as a copy. It has no side-effect-free look.
    pub fn ram_device(name: impl Into<String>, block: impl Into<Arc<RamBlock>>) -> Self {
        let mut region = Self::new(name, None, Kind::RamDevice).with_block(block);
        region.place_device();
        region
    }

    /// Gives a RAM device the callbacks for where it begins in its block.
    pub(crate) fn place_device(&mut self) {
        if let (Kind::RamDevice, Some(block)) = (self.kind, &self.block) {
            self.ops = Some(Arc::new(RamDeviceOps { block: Arc::clone(block), offset: self.offset }));
        }
    }

    /// A window on another region (QEMU: `memory_region_init_alias`): `size` bytes of `target` from `offset` on.
    /// What lies beyond the target's end is a hole.
    pub fn alias(name: impl Into<String>, target: RegionId, offset: u64, size: u128) -> Self {
        let mut region = Self::new(name, Some(size), Kind::Alias);
        region.alias = Some((target, offset));
        region
    }

    /// An IOMMU (QEMU: `memory_region_init_iommu`): accesses go on where the device says, page by page. Its other accesses
    /// and its byte order are those of what is there.
    ///
    /// The device is asked at once how many tables it has ([`IommuOps::indexes`](crate::IommuOps::indexes)).
    pub fn iommu(name: impl Into<String>, size: u128, ops: impl IntoIommuOps) -> Self {
        let mut region = Self::new(name, Some(size), Kind::Iommu);
        region.iommu = Some(Arc::new(IommuRegion::new(Arc::clone(&region.name), ops.into_iommu_ops())));
        region
    }

    /// A region that has a type for `info mtree` and no store, as read from a capture: every access is rejected.
    pub fn sketch(name: impl Into<String>, size: u128, kind: RegionType) -> Self {
        Self::new(name, Some(size), Kind::Sketch(kind))
    }

    /// For RAM kinds: only `size` bytes of the block, from `offset` on.
    pub fn window(mut self, offset: u64, size: u64) -> Self {
        self.window = Some((offset, size));
        self
    }

    /// The size in bytes; for RAM kinds at most what the block has.
    pub fn size(mut self, size: u128) -> Self {
        self.size = Some(size);
        self
    }

    /// Who it belongs to.
    pub fn owner(mut self, owner: &Owner) -> Self {
        self.owner = Some(owner.clone());
        self
    }

    /// Its QOM parent, where that is not the owner.
    pub fn parent(mut self, parent: &Owner) -> Self {
        self.parent = Some(parent.clone());
        self
    }

    /// Whether it is visible at first (default: yes).
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Whether it and everything seen through it is read-only at first (default: no; ROM: yes).
    pub fn readonly(mut self, readonly: bool) -> Self {
        self.readonly = readonly;
        self
    }

    /// Whether it is marked as surviving a power cycle at first (default: no).
    pub fn nonvolatile(mut self, nonvolatile: bool) -> Self {
        self.nonvolatile = nonvolatile;
        self
    }

    /// Switches the guard against re-entry off (QEMU: `disable_reentrancy_guard`).
    pub fn allow_reentry(mut self) -> Self {
        self.reentrant = true;
        self
    }
}

/// A region's attributes at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegionInfo {
    /// Its id.
    pub id: RegionId,
    /// Its name.
    pub name: Arc<str>,
    /// Offset in its container, in bytes.
    pub addr: u64,
    /// Size in bytes, up to 2^64.
    pub size: u128,
    /// Priority among its siblings; the highest wins.
    pub priority: i32,
    /// Goes up with every mapping: of siblings with equal priority the later wins.
    pub sequence: u64,
    /// Whether it is visible.
    pub enabled: bool,
    /// Whether it and what is seen through it is read-only.
    pub readonly: bool,
    /// Whether it is marked as surviving a power cycle.
    pub nonvolatile: bool,
    /// For a ROM device: whether reads come from its memory.
    pub romd: bool,
    /// Where it is mapped.
    pub container: Option<RegionId>,
    /// For an alias: its target and offset in bytes.
    pub alias: Option<(RegionId, u64)>,
    /// Whether it answers itself (everything but containers and aliases).
    pub terminates: bool,
    /// Its own type; an alias prints that of its final target.
    pub kind: RegionType,
    /// Who it belongs to.
    pub owner: Option<Owner>,
    /// Its QOM parent, where that is not the owner.
    pub parent: Option<Owner>,
    /// For RAM kinds: the block, and the offset of the region's first byte in it.
    pub ram: Option<(Arc<RamBlock>, u64)>,
    /// How it wants to be accessed.
    pub rules: AccessRules,
    /// Whether it is an IOMMU.
    pub iommu: bool,
}

/// The rules of regions without callbacks.
pub(crate) const NO_RULES: AccessRules = AccessRules::new().endian(DeviceEndian::Native);
