//! Slots under random changes.

use flatview::{MemoryError, RamBlock, Region};

use super::guest::{Guest, vm};
use super::support::{World, slots_of};

/// Above everything that changes.
const CODE: u64 = 0xffff_f000;

#[test]
fn after_each_of_ten_thousand_changes_the_slots_are_the_flat_view_and_the_guest_sees_what_it_shows() {
    let Some(vm) = vm() else { return };
    let changes = std::env::var("FLATVIEW_KVM_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let mut world = World::new(77, true);
    let memory = world.memory.clone();
    let code = RamBlock::anonymous("code", 0x1000).unwrap();
    // mov eax, [esi]; hlt, and at 0x10: mov [esi], eax; hlt
    code.write(0, &[0x8b, 0x06, 0xf4]).unwrap();
    code.write(0x10, &[0x89, 0x06, 0xf4]).unwrap();
    for block in blocks(&world) {
        let bytes: Vec<u8> = (0..block.size()).map(|_| world.rng.u8(..)).collect();
        block.write(0, &bytes).unwrap();
    }
    let code = memory.add(Region::ram("code", code)).unwrap();
    memory.map(memory.system(), CODE, code).unwrap();
    let mut guest = Guest::new(&vm, &memory);
    guest.kvm.collect_writes(&guest.vcpu).unwrap();
    guest.start_flat();
    let shown = |addr: u64| {
        let mut bytes = [0; 4];
        let _ = memory.memory_space().read(addr, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let (mut through_slots, mut through_exits, mut refused) = (0, 0, 0);
    for change in 0..changes {
        let steps = world.steps();
        match world.change(&steps) {
            Ok(()) => {}
            Err(MemoryError::ListenerRefused { .. }) => refused += 1,
            Err(other) => panic!("{other} of {steps:?}"),
        }
        let slots: std::collections::BTreeSet<_> = guest
            .kvm
            .slots()
            .iter()
            .map(|s| (s.addr, s.size, s.block.host().as_ptr() as u64 + s.offset, s.readonly, s.log))
            .collect();
        assert_eq!(slots, slots_of(&world.space));
        if change % 5 == 0 {
            let addr = world.rng.u64(..0x8_2000) * 4;
            let (seen, exits) = guest.access(CODE, addr, 0);
            assert_eq!(seen, shown(addr), "at {addr:#x}");
            let in_slot = slots.iter().any(|s| (s.0..s.0 + s.1).contains(&addr));
            assert_eq!(exits == 0, in_slot, "at {addr:#x}");
            through_slots += u32::from(in_slot);
            through_exits += u32::from(!in_slot);
            // A write reaches what the view says that can be written, and nothing else.
            let writable = world.space.view().unwrap().lookup(addr).is_some_and(|r| {
                r.is_ram()
                    && !r.readonly()
                    && r.last() - addr >= 3
                    && r.block().is_some_and(|(b, _)| b.is_writable())
            });
            let (before, value) = (shown(addr), world.rng.u32(..));
            guest.access(CODE + 0x10, addr, value);
            let whole = world.space.view().unwrap().lookup(addr).is_some_and(|r| r.last() - addr >= 3);
            if whole {
                assert_eq!(shown(addr), if writable { value } else { before }, "at {addr:#x}");
            }
        }
    }
    println!("{through_slots} reads through slots, {through_exits} through exits, {refused} changes refused");
    assert!(through_slots * 10 > changes / 5 && through_exits * 10 > changes / 5);
}

fn blocks(world: &World) -> Vec<std::sync::Arc<RamBlock>> {
    let view = world.space.view().unwrap();
    let mut blocks: Vec<_> = view.ranges().filter_map(|r| r.block().map(|(b, _)| b.clone())).collect();
    blocks.sort_by_key(|b| b.name().to_owned());
    blocks.dedup_by_key(|b| b.name().to_owned());
    blocks
}
