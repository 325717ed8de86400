//! Random changes on a VM that is only imagined: after each of them the slots, ioeventfds and collected ranges are what the
//! flat view says, nothing was touched that did not change, and a change that fails at any of its calls leaves all as it
//! was.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use flatview::{Delta, ListenerError, MemoryError, MemoryListener, SpaceId};
use flatview_kvm::testing::{Call, FakeVm, Picture};
use flatview_kvm::{Capability, KvmMemory};
use support::{Slot, World, ring, slots_of};

/// Transactions of a test; `FLATVIEW_KVM_CHANGES` tries more or fewer.
fn changes(usually: u32) -> u32 {
    std::env::var("FLATVIEW_KVM_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(usually)
}

fn slots_in(picture: &Picture) -> BTreeSet<Slot> {
    let slot = |s: &flatview_kvm::SlotRequest| (s.guest_addr, s.size, s.host_addr, s.readonly, s.log);
    picture.slots.iter().map(slot).collect()
}

/// Holds what the VM has against the view.
fn compare(world: &World, vm: &FakeVm, kvm: &KvmMemory) {
    let picture = vm.picture();
    assert_eq!(slots_in(&picture), slots_of(&world.space));
    let eventfds: Vec<_> = picture.eventfds.iter().map(|(_, a, s, d, fd)| (*a, *s, *d, *fd)).collect();
    assert_eq!(eventfds, world.eventfds().into_iter().collect::<Vec<_>>());
    let zones: Vec<_> = picture.zones.iter().map(|z| (z.addr, z.size)).collect();
    assert_eq!(zones, world.zones().into_iter().collect::<Vec<_>>());
    let known: BTreeSet<Slot> = kvm
        .slots()
        .iter()
        .map(|s| (s.addr, s.size, s.block.host().as_ptr() as u64 + s.offset, s.readonly, s.log))
        .collect();
    assert_eq!(known, slots_in(&picture));
}

/// The calls on slots that the difference of two sets asks for: made, deleted, log changed.
fn difference(old: &BTreeSet<Slot>, new: &BTreeSet<Slot>) -> (usize, usize, usize) {
    let memory = |set: &BTreeSet<Slot>| set.iter().map(|s| (s.0, s.1, s.2, s.3)).collect::<BTreeSet<_>>();
    let (was, is) = (memory(old), memory(new));
    let stays = was.intersection(&is).count();
    let same = old.intersection(new).count();
    (is.len() - stays, was.len() - stays, stays - same)
}

fn counted(calls: &[Call]) -> (usize, usize, usize) {
    let count = |f: fn(&Call) -> bool| calls.iter().filter(|c| f(c)).count();
    (
        count(|c| matches!(c, Call::Create(_))),
        count(|c| matches!(c, Call::Delete(_))),
        count(|c| matches!(c, Call::SetLog(_))),
    )
}

#[test]
fn whatever_changes_the_vm_has_what_the_view_shows_and_only_what_differs_is_touched() {
    for seed in 0..4 {
        let mut world = World::new(seed, true);
        let vm = Arc::new(FakeVm::new());
        let kvm = KvmMemory::new(Arc::clone(&vm), &world.memory).unwrap();
        let page = ring();
        kvm.collect_writes_in(page.as_fd()).unwrap();
        compare(&world, &vm, &kvm);
        let mut refused = 0;
        for _ in 0..changes(2_500) {
            let before = vm.picture();
            let old = slots_in(&before);
            vm.take_calls();
            let steps = world.steps();
            match world.change(&steps) {
                Ok(()) => {
                    let new = slots_of(&world.space);
                    assert_eq!(counted(&vm.take_calls()), difference(&old, &new), "{steps:?}");
                }
                // Two ioeventfds that KVM cannot tell apart.
                Err(MemoryError::ListenerRefused { .. }) => {
                    refused += 1;
                    assert_eq!(vm.take_calls(), []);
                    assert_eq!(vm.picture(), before);
                }
                Err(other) => panic!("{other} of {steps:?}"),
            }
            compare(&world, &vm, &kvm);
        }
        assert!(refused > 0, "no change was refused");
        kvm.detach().unwrap();
        assert_eq!(vm.picture(), Picture::default());
    }
}

/// Looks at the VM when a change begins, and again when one that KVM could not follow begins to be taken back: the
/// listener before KVM's is told that first.
struct Between(Arc<FakeVm>, Mutex<Picture>);

impl MemoryListener for Between {
    fn name(&self) -> &str {
        "between"
    }
    fn begin(&self) -> Result<(), ListenerError> {
        *self.1.lock().unwrap() = self.0.picture();
        Ok(())
    }
}

#[test]
fn a_change_that_fails_at_any_of_its_calls_leaves_everything_as_before() {
    let (mut failed, mut commits) = (0, 0);
    for seed in 10..14 {
        let mut world = World::new(seed, true);
        let vm = if seed % 2 == 0 {
            FakeVm::new()
        } else {
            FakeVm::new().without(Capability::ManualDirtyLogProtect2)
        };
        let vm = Arc::new(vm);
        let between = Arc::new(Between(Arc::clone(&vm), Mutex::default()));
        world.memory.add_listener(between.clone()).unwrap();
        let kvm = KvmMemory::new(Arc::clone(&vm), &world.memory).unwrap();
        let page = ring();
        kvm.collect_writes_in(page.as_fd()).unwrap();
        for _ in 0..changes(600) {
            let steps = world.steps();
            for n in 1.. {
                let (before, view) = (vm.picture(), slots_of(&world.space));
                vm.fail_at(n);
                let changed = world.change(&steps);
                let came = !vm.is_failing();
                vm.fail_at(0);
                if !came {
                    if let Err(error) = &changed {
                        assert!(matches!(error, MemoryError::ListenerRefused { .. }), "{error}");
                    }
                    break;
                }
                failed += 1;
                let error = changed.expect_err("the call failed");
                let text = error.to_string();
                assert!(matches!(error, MemoryError::ListenerFailed { .. }), "{text}");
                assert!(text.contains("KVM does not") && text.contains("0x"), "{text}");
                assert_eq!(vm.picture(), before, "{n}: {steps:?}");
                // A commit that failed had no effect itself, before anything was taken back. Ioeventfds and collected ranges
                // are told before it, one by one.
                if let MemoryError::ListenerFailed { callback: "commit", .. } = error {
                    let between = between.1.lock().unwrap().clone();
                    assert_eq!(between.slots, before.slots, "{n}: {steps:?}");
                    commits += 1;
                }
                assert_eq!(slots_of(&world.space), view);
                compare(&world, &vm, &kvm);
                assert!(world.memory.listeners().iter().all(|l| l.failed.is_none()));
            }
            compare(&world, &vm, &kvm);
        }
    }
    println!("{failed} calls failed, {commits} of them in commits");
    assert!(failed > 1_000 && commits > 500, "only {failed} calls failed, {commits} of them in commits");
}

/// Tells, before KVM is asked, how many slots a change asks for.
struct Needed {
    space: SpaceId,
    slots: AtomicUsize,
}

impl MemoryListener for Needed {
    fn name(&self) -> &str {
        "needed"
    }
    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }
    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let pages = |r: &flatview::FlatRange| {
            let from = r.start().div_ceil(support::PAGE);
            let to = (u128::from(r.last()) + 1) / u128::from(support::PAGE);
            u128::from(from) < to
        };
        let aligned = |r: &flatview::FlatRange| {
            r.block().is_some_and(|(b, offset)| {
                (b.host().as_ptr() as u64 + offset).wrapping_sub(r.start()).is_multiple_of(support::PAGE)
            })
        };
        if let Some(delta) = delta.space(self.space) {
            let ranges = delta.new_view().ranges();
            let slots = ranges.filter(|r| (r.is_ram() || r.romd()) && pages(r) && aligned(r)).count();
            self.slots.store(slots, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn a_change_that_needs_more_slots_than_there_are_is_refused_and_no_other() {
    let (mut done, mut refused) = (0, 0);
    for seed in 20..30 {
        let mut world = World::new(seed, false);
        for _ in 0..100 {
            let steps = world.steps();
            world.change(&steps).unwrap();
        }
        // As many as it needs just now.
        let have = slots_of(&world.space).len();
        let needed = Arc::new(Needed { space: world.space.id(), slots: AtomicUsize::new(0) });
        world.memory.add_listener(needed.clone()).unwrap();
        let vm = Arc::new(FakeVm::new().with_slots(64));
        let kvm = KvmMemory::builder(Arc::clone(&vm), &world.memory, world.space.id())
            .slots(5..5 + have as u32)
            .build();
        let kvm = kvm.unwrap();
        for _ in 0..changes(600) {
            let before = vm.picture();
            let steps = world.steps();
            let changed = world.change(&steps);
            let need = needed.slots.load(Ordering::Relaxed);
            match changed {
                Ok(()) => {
                    assert!(need <= have, "{need} were needed");
                    assert!(vm.picture().slots.iter().all(|s| s.slot >= 5 && s.slot < 5 + have as u32));
                    done += 1;
                }
                Err(MemoryError::ListenerRefused { reason, .. }) if need > have => {
                    assert!(reason.contains(&format!("needs {need}, and there are {have}")), "{reason}");
                    assert_eq!(vm.picture(), before);
                    needed.slots.store(slots_of(&world.space).len(), Ordering::Relaxed);
                    refused += 1;
                }
                // Ioeventfds that collide.
                Err(MemoryError::ListenerRefused { reason, .. }) => {
                    assert!(reason.contains("ioeventfd"), "{reason}");
                    needed.slots.store(slots_of(&world.space).len(), Ordering::Relaxed);
                }
                Err(other) => panic!("{other}"),
            }
            assert_eq!(slots_in(&vm.picture()), slots_of(&world.space));
        }
        drop(kvm);
        assert_eq!(vm.picture(), Picture::default());
    }
    assert!(done > 500 && refused > 100, "{done} done, {refused} refused");
}
