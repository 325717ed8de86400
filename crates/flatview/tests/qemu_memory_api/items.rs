//! A use of every item that `docs/qemu-memory-api.md` names: this compiles, so the items are there.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use flatview::*;

/// For what takes a log.
struct Silent;

impl AccessLog for Silent {
    fn invalid(&self, _: &InvalidAccess<'_>) {}
}

/// Lists the items by what they are, and uses each.
macro_rules! items {
    (
        types { $($type:ident $(<$life:lifetime>)?,)* }
        traits { $($trait:ident,)* }
        methods { $($of:ident::$method:ident,)* }
        fields { $($struct:ident::$field:ident,)* }
        values { $($value_of:ident::$value:ident,)* }
        module_types { $($module_of:ident::$module_type:ident,)* }
        module_values { $($module:ident::$item:ident,)* }
        calls { $($call_of:ident::$call:ident $(::<$($generic:ty),*>)? ($($argument:ident: $argument_type:ty),*);)* }
    ) => {
        /// The items, as they are spelled on the page.
        pub const ITEMS: &[&str] = &[
            $(stringify!($type),)*
            $(stringify!($trait),)*
            $(concat!(stringify!($of), "::", stringify!($method)),)*
            $(concat!(stringify!($struct), "::", stringify!($field)),)*
            $(concat!(stringify!($value_of), "::", stringify!($value)),)*
            $(concat!(stringify!($module_of), "::", stringify!($module_type)),)*
            $(concat!(stringify!($module), "::", stringify!($item)),)*
            $(concat!(stringify!($call_of), "::", stringify!($call)),)*
        ];

        #[test]
        fn every_item_that_is_listed_is_there() {
            $(let _ = |_: &$type $(<$life>)?| {};)*
            $(let _ = |_: &dyn $trait| {};)*
            $(let _ = <dyn $of>::$method;)*
            $(let _ = |value: &$struct| { let _ = &value.$field; };)*
            $(let _ = $value_of::$value;)*
            $(let _ = |_: &$module_of::$module_type| {};)*
            $(let _ = $module::$item;)*
            $(let _ = |$($argument: $argument_type),*| $call_of::$call $(::<$($generic),*>)? ($($argument),*);)*
            assert!(ITEMS.len() > 150);
        }
    };
}

items! {
    types {
        AddressSpace,
        Be,
        Delta,
        DeviceEndian,
        EventNotifier,
        FlatRange,
        FlatView,
        GlobalLog,
        HostPolicy,
        HostPtr,
        InvalidAccess<'_>,
        IoEventFd,
        IommuEntry,
        IommuEvent,
        IommuEvents,
        IommuPerm,
        IommuRequest<'_>,
        IotlbEntry,
        Le,
        Limits,
        ListenerError,
        ListenerPriority,
        Mapped,
        MemTxAttrs,
        MemTxError,
        MemTxResult,
        Ops,
        Prealloc,
        RamBuilder,
        Reader,
        RegionCache,
        Section,
    }
    traits {
        AccessFilter,
        DiscardListener,
        HostBuffer,
        IommuOps,
        MmioOps,
        RamBlockNotifier,
    }
    methods {
        IommuOps::events_changed,
        IommuOps::index,
        IommuOps::indexes,
        IommuOps::min_page_size,
        IommuOps::replay,
        IommuOps::translate,
        MemoryListener::begin,
        MemoryListener::cancel,
        MemoryListener::coalesced_io_add,
        MemoryListener::coalesced_io_del,
        MemoryListener::commit,
        MemoryListener::eventfd_add,
        MemoryListener::eventfd_del,
        MemoryListener::log_clear,
        MemoryListener::log_global_start,
        MemoryListener::log_global_stop,
        MemoryListener::log_start,
        MemoryListener::log_stop,
        MemoryListener::log_sync,
        MemoryListener::log_sync_global,
        MemoryListener::name,
        MemoryListener::prepare,
        MemoryListener::priority,
        MemoryListener::region_add,
        MemoryListener::region_del,
        MemoryListener::region_nop,
        MemoryListener::space,
        MemoryListener::syncs_globally,
        MemoryListener::wants_nop,
        MmioOps::filter,
        MmioOps::read,
        MmioOps::write,
    }
    fields {
        MemTxAttrs::memory,
        MemTxAttrs::requester_id,
        MemTxAttrs::secure,
        MemTxAttrs::user,
        RegionInfo::iommu,
        RegionInfo::kind,
        RegionInfo::name,
        RegionInfo::nonvolatile,
        RegionInfo::owner,
        RegionInfo::size,
    }
    values {
        Access::attrs,
        Access::port,
        AccessRules::endian,
        AccessRules::implemented,
        AccessRules::implemented_unaligned,
        AccessRules::valid,
        AccessRules::valid_unaligned,
        AddressSpace::cancel_on_room,
        AddressSpace::fill,
        AddressSpace::peek,
        AddressSpace::poke,
        AddressSpace::read,
        AddressSpace::set_bounce_budget,
        AddressSpace::view,
        AddressSpace::write,
        DirtyClient::CODE,
        DirtyClient::MIGRATION,
        DirtyClient::VGA,
        DirtyRateMeter::start,
        DirtySnapshot::is_dirty,
        DiscardManager::granularity,
        DiscardManager::is_populated,
        DiscardManager::listen,
        DiscardManager::new,
        DiscardManager::unlisten,
        DiscardRules::disable,
        DiscardRules::disable_uncoordinated,
        DiscardRules::is_disabled,
        DiscardRules::is_required,
        DiscardRules::require,
        DiscardRules::require_coordinated,
        FlatRange::is_ram,
        FlatRange::is_ram_backed,
        FlatRange::kind,
        FlatRange::log_mask,
        FlatRange::nonvolatile,
        FlatRange::readonly,
        FlatRange::romd,
        FlatView::lookup,
        FlatView::ranges,
        FlatView::root,
        FlatView::shape,
        Iommu::notify,
        Iommu::unmap_all,
        IommuNotifier::index,
        IommuNotifier::range,
        IommuReplay::tell,
        Mapped::unmap,
        MemTxAttrs::UNSPECIFIED,
        MemTxError::reason,
        Memory::add_block_notifier,
        Memory::add_iommu_notifier,
        Memory::add_listener,
        Memory::address_space,
        Memory::allocate_dirty_client,
        Memory::block_at_host,
        Memory::blocked_reentries,
        Memory::contains,
        Memory::find,
        Memory::flush_rom_device,
        Memory::io,
        Memory::io_space,
        Memory::iommu,
        Memory::is_logging,
        Memory::is_mapped,
        Memory::log_mask,
        Memory::map,
        Memory::memory_space,
        Memory::ram_blocks,
        Memory::remove_block_notifier,
        Memory::remove_iommu_notifier,
        Memory::remove_listener,
        Memory::remove_space,
        Memory::replay_iommu,
        Memory::reset_dirty,
        Memory::resize_ram,
        Memory::set_coalesced_flush,
        Memory::set_dirty,
        Memory::set_kernel_eventfds,
        Memory::set_log,
        Memory::snapshot_and_clear_dirty,
        Memory::start_global_log,
        Memory::stop_global_log,
        Memory::sync_dirty_log,
        Memory::synchronize,
        Memory::system,
        Memory::test_and_clear_dirty,
        Port::access_valid,
        Port::cache,
        Port::copy_to,
        Port::iotlb_entry,
        Port::is_io,
        Port::map,
        Port::read,
        Port::write,
        RamBlock::anonymous,
        RamBlock::builder,
        RamBlock::discard,
        RamBlock::discard_manager,
        RamBlock::file,
        RamBlock::from_fd,
        RamBlock::from_file,
        RamBlock::from_raw,
        RamBlock::host,
        RamBlock::info,
        RamBlock::mark_dirty,
        RamBlock::mark_dirty_bitmap,
        RamBlock::max_size,
        RamBlock::page_size,
        RamBlock::share,
        RamBlock::size,
        RamBlock::sync,
        RamBuilder::align,
        RamBuilder::dump,
        RamBuilder::fork,
        RamBuilder::huge_pages,
        RamBuilder::max_size,
        RamBuilder::merge,
        RamBuilder::prealloc,
        RamBuilder::readonly,
        RamBuilder::reserve,
        RamBuilder::share,
        Reader::park,
        Reader::peek,
        Reader::poke,
        Reader::read,
        Reader::write,
        Region::allow_reentry,
        Region::size,
        Region::window,
        RegionCache::invalidate,
        RegionCache::read,
        RegionCache::write,
        Transaction::add_coalescing,
        Transaction::add_eventfd,
        Transaction::clear_coalescing,
        Transaction::clear_flush_coalesced,
        Transaction::del_eventfd,
        Transaction::map,
        Transaction::map_overlap,
        Transaction::remove,
        Transaction::set_address,
        Transaction::set_alias_offset,
        Transaction::set_alias_target,
        Transaction::set_coalescing,
        Transaction::set_enabled,
        Transaction::set_flush_coalesced,
        Transaction::set_log,
        Transaction::set_nonvolatile,
        Transaction::set_priority,
        Transaction::set_readonly,
        Transaction::set_romd,
        Transaction::set_size,
        Transaction::unmap,
    }
    module_types {
        mtree::Options,
    }
    module_values {
        mtree::import,
        mtree::write,
        visibility::who_answers,
    }
    calls {
        AddressSpace::on_room(space: &AddressSpace, call: fn());
        DiscardManager::replay_discarded(manager: &DiscardManager, range: Range<u64>, tell: fn(Range<u64>) -> Result<(), DiscardError>);
        DiscardManager::replay_populated(manager: &DiscardManager, range: Range<u64>, tell: fn(Range<u64>) -> Result<(), DiscardError>);
        IommuNotifier::new(events: IommuEvents, tell: fn(&IommuEvent));
        IommuReplay::walk(replay: &IommuReplay<'_>, page: u64, translate: fn(&IommuRequest<'_>) -> IommuEntry);
        Memory::set_access_log(memory: &Memory, log: Silent);
        Memory::update(memory: &Memory, f: fn(&mut Transaction<'_>) -> Result<(), MemoryError>);
        Ops::accepts(ops: Ops, f: fn(&Access<'_>) -> bool);
        Ops::read(ops: Ops, f: fn(&Access<'_>) -> Result<u64, MemTxError>);
        Ops::write(ops: Ops, f: fn(&Access<'_>, u64) -> Result<(), MemTxError>);
        Port::compare_exchange::<Le, u32>(port: &Port<'_>, address: u64, old: u32, new: u32);
        Port::fetch_add::<Le, u32>(port: &Port<'_>, address: u64, operand: u32);
        Port::fetch_and::<Le, u32>(port: &Port<'_>, address: u64, operand: u32);
        Port::fetch_or::<Le, u32>(port: &Port<'_>, address: u64, operand: u32);
        Port::fetch_xor::<Le, u32>(port: &Port<'_>, address: u64, operand: u32);
        Port::load::<Be, u32>(port: &Port<'_>, address: u64);
        Port::store::<Le, u64>(port: &Port<'_>, address: u64, value: u64);
        Port::swap::<Le, u32>(port: &Port<'_>, address: u64, operand: u32);
        RamBlock::from_buffer(name: &str, buffer: Box<[AtomicU8]>);
        RamBuilder::file(builder: RamBuilder, path: &Path);
        RamBuilder::host_nodes(builder: RamBuilder, policy: HostPolicy, nodes: Vec<u32>);
        RamBuilder::mem_path(builder: RamBuilder, path: &Path);
        RamBuilder::on_resize(builder: RamBuilder, f: fn(&Arc<RamBlock>, u64));
        Reader::cpu_load::<Be, u32>(reader: &Reader, address: u64);
        Reader::cpu_store::<Le, u64>(reader: &Reader, address: u64, value: u64);
        Reader::load::<Be, u32>(reader: &Reader, address: u64);
        Reader::store::<Le, u64>(reader: &Reader, address: u64, value: u64);
        Region::alias(name: &str, target: RegionId, offset: u64, size: u128);
        Region::container(name: &str, size: u128);
        Region::io(name: &str, size: u128, ops: Ops);
        Region::iommu(name: &str, size: u128, ops: Arc<dyn IommuOps>);
        Region::ram(name: &str, block: Arc<RamBlock>);
        Region::ram_device(name: &str, block: Arc<RamBlock>);
        Region::reservation(name: &str, size: u128);
        Region::rom(name: &str, block: Arc<RamBlock>);
        Region::rom_device(name: &str, block: Arc<RamBlock>, ops: Ops);
        RegionCache::load::<Be, u16>(cache: &RegionCache, offset: u64);
        RegionCache::store::<Be, u16>(cache: &RegionCache, offset: u64, value: u16);
    }
}
