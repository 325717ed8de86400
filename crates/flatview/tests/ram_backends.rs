//! What RAM blocks can be made of, with which options, and what is refused with which cure.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use flatview::{HostPolicy, HugePages, Prealloc, PreallocProgress, RamBlock, RamBuilder, RamError, Share};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// What the kernel says of the mapping behind a block (`/proc/self/smaps`): resident KiB and flags.
fn smaps(block: &Arc<RamBlock>) -> (u64, Vec<String>) {
    let start = block.host().as_ptr().addr();
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    let mut resident = 0;
    for line in text.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && let Some((from, to)) = range.split_once('-')
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            inside = (from..to).contains(&start);
        } else if inside && let Some(kib) = line.strip_prefix("Rss:") {
            resident = kib.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
        } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return (resident, flags.split_whitespace().map(str::to_owned).collect());
        }
    }
    panic!("no mapping at {start:#x}");
}

fn byte(block: &Arc<RamBlock>, offset: u64) -> u8 {
    let mut out = [0];
    block.read(offset, &mut out).unwrap();
    out[0]
}

fn text(built: RamBuilder) -> String {
    built.build().unwrap_err().to_string()
}

#[test]
fn a_memfd_is_shared_through_its_descriptor_and_a_seal_fixes_its_size() {
    let block = RamBlock::builder("m", 8192).memfd().seal(true).share(Share::Shared).build().unwrap();
    let (fd, offset) = block.file().unwrap();
    assert_eq!(offset, 0);
    let fd = fd.try_clone_to_owned().unwrap();
    let other = RamBlock::from_fd("other", &fd, 4096, 4096, Share::Shared).unwrap();
    block.write(4096, &[42]).unwrap();
    assert_eq!(byte(&other, 0), 42);
    for size in [4096, 16384] {
        assert_eq!(rustix::fs::ftruncate(&fd, size).unwrap_err(), rustix::io::Errno::PERM, "{size}");
    }
    let loose = RamBlock::builder("m", 8192).memfd().share(Share::Shared).build().unwrap();
    rustix::fs::ftruncate(loose.file().unwrap().0, 16384).unwrap();
    assert!(RamBlock::builder("a", 1).build().unwrap().file().is_none(), "anonymous memory has none");
}

#[test]
fn huge_pages_are_had_or_the_error_says_how_to_get_them() {
    match RamBlock::builder("huge", 4 * MIB).memfd().hugetlb(0).share(Share::Shared).build() {
        Ok(block) => {
            assert!(block.page_size() > PAGE);
            assert!((block.host().as_ptr().addr() as u64).is_multiple_of(block.page_size()));
        }
        Err(e @ RamError::NoHugePages { .. }) => {
            assert!(e.to_string().contains("sysctl vm.nr_hugepages=2"), "{e}");
        }
        // A host whose kernel has none at all.
        Err(e) => assert!(matches!(e, RamError::NoSuchPageSize { .. }), "{e}"),
    }
    let e = text(RamBlock::builder("huge", 3 * MIB).memfd().hugetlb(3 * MIB));
    assert!(e.contains("Huge pages of 0x300000 bytes") && e.contains("this host has"), "{e}");
    if Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        let e = text(RamBlock::builder("huge", 3 * MIB).memfd().hugetlb(2 * MIB));
        assert!(e.contains("not a multiple of its page size 0x200000; ask for 0x400000 bytes"), "{e}");
    }
}

#[test]
fn a_mem_path_is_made_if_missing_filled_if_empty_and_never_cut() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let block = RamBlock::builder("n", 5000).mem_path(&new).share(Share::Shared).build().unwrap();
    assert_eq!(std::fs::metadata(&new).unwrap().len(), 8192, "whole pages");
    block.write(4999, &[7]).unwrap();
    drop(block);
    assert_eq!(std::fs::read(&new).unwrap()[4999], 7, "it stays, with its contents");

    let empty = folder.path().join("empty");
    std::fs::write(&empty, []).unwrap();
    let block = RamBlock::builder("e", PAGE).mem_path(&empty).offset(2 * PAGE).build().unwrap();
    assert_eq!(std::fs::metadata(&empty).unwrap().len(), 3 * PAGE);
    assert_eq!(block.file().unwrap().1, 2 * PAGE);

    let small = folder.path().join("small");
    std::fs::write(&small, [1; 100]).unwrap();
    let e = RamBlock::builder("s", PAGE).mem_path(&small).build().unwrap_err();
    assert!(matches!(e, RamError::FileTooSmall { have: 100, need: PAGE, .. }), "{e}");
    assert!(e.to_string().contains("truncate -s"), "{e}");
    assert_eq!(std::fs::read(&small).unwrap(), [1; 100]);

    let large = folder.path().join("large");
    std::fs::write(&large, vec![3; 3 * PAGE as usize]).unwrap();
    let block = RamBlock::builder("l", PAGE).mem_path(&large).offset(PAGE).build().unwrap();
    assert_eq!(byte(&block, 0), 3);
    block.write(0, &[9]).unwrap();
    assert_eq!(
        std::fs::read(&large).unwrap(),
        vec![3; 3 * PAGE as usize],
        "private: the file keeps its bytes"
    );
}

#[test]
fn a_directory_means_a_file_without_a_name_or_an_error_where_a_file_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let block =
        RamBlock::builder("d", 2 * PAGE).mem_path(folder.path()).share(Share::Shared).build().unwrap();
    block.write(PAGE, &[5]).unwrap();
    let mut out = [0];
    std::fs::File::from(block.file().unwrap().0.try_clone_to_owned().unwrap())
        .read_exact_at(&mut out, PAGE)
        .unwrap();
    assert_eq!(out, [5], "there is a file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and it has no name");

    let e = RamBlock::builder("d", PAGE).file(folder.path()).build().unwrap_err();
    assert!(matches!(e, RamError::IsDirectory { .. }), "{e}");
    let e = RamBlock::from_file("d", folder.path(), 0, PAGE, Share::Shared, false).unwrap_err();
    assert!(matches!(e, RamError::IsDirectory { .. }), "{e}");
    for below in ["missing/file", "missing/"] {
        let e = RamBlock::builder("d", PAGE).mem_path(folder.path().join(below)).build().unwrap_err();
        assert!(matches!(e, RamError::NoFolder { .. }), "{e}");
        assert!(e.to_string().contains("mkdir -p"), "{e}");
    }
}

#[test]
fn what_may_not_be_opened_says_so() {
    // Nobody may write it, not even root.
    let forbidden = "/proc/sys/kernel/osrelease";
    let e = RamBlock::builder("p", PAGE).mem_path(forbidden).share(Share::Shared).build().unwrap_err();
    assert!(matches!(e, RamError::NoPermission { access: "reading and writing", .. }), "{e}");
    assert!(e.to_string().contains(forbidden) && e.to_string().contains("chmod"), "{e}");
    let e = RamBlock::builder("p", PAGE).mem_path("/nonexistent").readonly(true).build().unwrap_err();
    assert!(matches!(e, RamError::NoFile { .. }), "a read-only file is not made: {e}");
    let e = RamBlock::builder("p", PAGE).mem_path("/proc/self/mem").build().unwrap_err();
    assert!(matches!(e, RamError::Map { .. }), "{e}");
}

#[test]
fn a_file_that_was_made_for_a_block_that_cannot_be_is_removed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    for builder in [
        RamBlock::builder("x", PAGE).mem_path(&path).align(3),
        RamBlock::builder("x", PAGE).mem_path(&path).align(PAGE + 512),
        RamBlock::builder("x", 1 << 62).mem_path(&path),
    ] {
        builder.build().unwrap_err();
        assert!(!path.exists());
    }
}

#[test]
fn a_read_only_file_can_be_read_by_all_and_written_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rom");
    std::fs::write(&path, vec![1; PAGE as usize]).unwrap();
    for share in [Share::Shared, Share::Private] {
        let block = RamBlock::builder("r", PAGE).mem_path(&path).share(share).readonly(true).build().unwrap();
        assert_eq!(byte(&block, 0), 1);
        assert!(!block.is_writable());
        assert!(block.write(0, &[2]).is_err());
        assert!(matches!(block.discard(0..PAGE), Err(RamError::NoDiscard { .. })));
    }
}

#[test]
fn contents_that_are_to_be_discarded_do_not_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for (discard, left) in [(true, 0), (false, 8)] {
        let path = folder.path().join("data");
        std::fs::write(&path, vec![1; PAGE as usize]).unwrap();
        let block = RamBlock::builder("d", PAGE).file(&path).share(Share::Shared).discard_data(discard);
        let block = block.build().unwrap();
        block.write(0, &[8]).unwrap();
        drop(block);
        assert_eq!(std::fs::read(&path).unwrap()[0], left);
    }
}

#[test]
fn options_of_another_back_end_are_refused_and_name_the_one_that_has_them() {
    for (builder, part) in [
        (
            RamBlock::builder("a", PAGE).seal(true),
            "is anonymous memory and has no 'seal'; leave it out, or use a memfd",
        ),
        (RamBlock::builder("a", PAGE).hugetlb(0), "'hugetlb'"),
        (
            RamBlock::builder("a", PAGE).memfd().offset(PAGE),
            "is a memfd and has no 'offset'; leave it out, or use a file",
        ),
        (RamBlock::builder("a", PAGE).readonly(true), "'readonly'"),
        (RamBlock::builder("a", PAGE).memfd().discard_data(true), "'discard-data'"),
        (RamBlock::builder("a", PAGE).memfd().max_size(2 * PAGE), "'max_size'"),
        (RamBlock::builder("a", PAGE).max_size(1), "raise the maximum"),
        (RamBlock::builder("a", PAGE).align(3), "Alignment 0x3"),
        (RamBlock::builder("a", PAGE).align(0x3000), "must be a power of two"),
        (RamBlock::builder("a", PAGE).mem_path("/tmp").offset(1), "Offset 0x1"),
        (RamBlock::builder("a", 0), "has size 0"),
        (RamBlock::builder("a\n", 1), "control character"),
    ] {
        let e = text(builder);
        assert!(e.contains(part), "{e}");
    }
    // What says nothing is no option.
    RamBlock::builder("a", PAGE).seal(false).offset(0).readonly(false).discard_data(false).build().unwrap();
}

#[test]
fn host_nodes_and_policy_go_together_or_the_error_says_what_is_missing() {
    let with = |policy, nodes: &[u32]| RamBlock::builder("n", PAGE).host_nodes(policy, nodes.to_vec());
    assert!(text(with(HostPolicy::Bind, &[])).contains("has policy bind and no host nodes"));
    assert!(text(with(HostPolicy::Default, &[0])).contains("name another one (policy=bind)"));
    assert!(text(with(HostPolicy::Bind, &[200])).contains("Host node 200"));
    with(HostPolicy::Default, &[]).build().unwrap();
    for policy in [HostPolicy::Bind, HostPolicy::Preferred, HostPolicy::Interleave] {
        match with(policy, &[0]).build() {
            Ok(block) => block.write(0, &[1]).unwrap(),
            // A kernel without NUMA.
            Err(e) => assert!(matches!(e, RamError::Policy { .. }), "{e}"),
        }
    }
    let e = with(HostPolicy::Bind, &[127]).build().unwrap_err();
    assert!(matches!(e, RamError::Policy { policy: "bind", .. }), "{e}");
    assert!(e.to_string().contains("nodes 127") && e.to_string().contains("numactl -H"), "{e}");
}

#[test]
fn preallocation_takes_every_page_and_tells_how_far_it_is() {
    for threads in [1, 3, 1000] {
        let heard: Arc<Mutex<Vec<PreallocProgress>>> = Arc::default();
        let teller = heard.clone();
        let how = Prealloc::new().threads(NonZeroUsize::new(threads).unwrap());
        let how = how.progress(move |p| teller.lock().unwrap().push(p));
        let block = RamBlock::builder("p", 8 * MIB + 100).prealloc(how).build().unwrap();
        assert!(smaps(&block).0 >= 8 << 10, "{:?}", smaps(&block));
        assert_eq!(byte(&block, 8 * MIB), 0);
        let heard = heard.lock().unwrap();
        let total = 8 * MIB + PAGE;
        assert_eq!(heard.first(), Some(&PreallocProgress { done: 0, total }));
        assert_eq!(heard.last(), Some(&PreallocProgress { done: total, total }));
        assert!(heard.windows(2).all(|w| w[0].done < w[1].done), "{heard:?}");
    }
    let lazy = RamBlock::builder("l", 8 * MIB).build().unwrap();
    assert_eq!(smaps(&lazy).0, 0);
}

#[test]
fn preallocation_keeps_what_a_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, vec![6; 2 * MIB as usize]).unwrap();
    for (share, readonly) in [(Share::Shared, false), (Share::Private, false), (Share::Shared, true)] {
        let block = RamBlock::builder("p", 2 * MIB).mem_path(&path).share(share).readonly(readonly);
        let block = block.prealloc(Prealloc::new()).build().unwrap();
        assert_eq!(byte(&block, 2 * MIB - 1), 6);
        assert!(smaps(&block).0 >= 2 << 10);
    }
}

#[test]
fn the_host_is_told_what_was_asked_for() {
    let flags = |builder: RamBuilder| smaps(&builder.build().unwrap()).1;
    let has = |flags: &[String], flag: &str| flags.iter().any(|f| f == flag);
    let plain = flags(RamBlock::builder("a", 4 * MIB));
    for flag in ["dd", "dc", "hg", "nh", "mg", "nr"] {
        assert!(!has(&plain, flag), "{flag}: {plain:?}");
    }
    assert!(has(&flags(RamBlock::builder("a", PAGE).dump(false)), "dd"));
    assert!(has(&flags(RamBlock::builder("a", PAGE).fork(false)), "dc"));
    assert!(has(&flags(RamBlock::builder("a", PAGE).reserve(false)), "nr"));
    assert!(has(&flags(RamBlock::builder("a", PAGE).share(Share::Shared)), "sh"));
    if Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        assert!(has(&flags(RamBlock::builder("a", 4 * MIB).huge_pages(HugePages::Yes)), "hg"));
        assert!(has(&flags(RamBlock::builder("a", 4 * MIB).huge_pages(HugePages::No)), "nh"));
    }
    if Path::new("/sys/kernel/mm/ksm").exists() {
        assert!(has(&flags(RamBlock::builder("a", PAGE).merge(true)), "mg"));
        assert!(!has(&flags(RamBlock::builder("a", PAGE).merge(false)), "mg"));
    }
}

#[test]
fn alignment_is_that_of_the_host_address() {
    for align in [PAGE, 64 << 10, 2 * MIB, 1 << 30] {
        let block = RamBlock::builder("a", 3 * PAGE).align(align).build().unwrap();
        assert!((block.host().as_ptr().addr() as u64).is_multiple_of(align));
        block.write(3 * PAGE - 1, &[1]).unwrap();
    }
}

#[test]
fn shared_anonymous_memory_is_one_memory_with_a_child() {
    // Not seen by fork here (threads), but by the kernel's word for it, and by discarding it.
    let block = RamBlock::builder("s", 4 * PAGE).share(Share::Shared).build().unwrap();
    block.write(PAGE, &[1]).unwrap();
    block.discard(PAGE..2 * PAGE).unwrap();
    assert_eq!(byte(&block, PAGE), 0);
    assert_eq!(block.info().share, Share::Shared);
}
