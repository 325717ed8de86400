//! The object tree, asked as `qom-list` and `qom-get` ask it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::sync::Arc;

use flatview::{MemoryError, Owner, Region, WHOLE};
use flatview_board::device::{CharSpec, QomValue};
use flatview_board::{Machine, MachineConfig, MemdevSpec, Properties, QomError, SerialConfig};

fn machine() -> Arc<Machine> {
    Machine::new(MachineConfig {
        serials: vec![SerialConfig::Spec(CharSpec::Null)],
        start_stopped: true,
        bios: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/empty.rom")),
        ..MachineConfig::new("40p")
    })
    .unwrap()
}

fn text(text: &str) -> QomValue {
    QomValue::Text(text.to_owned())
}

#[test]
fn a_regions_properties_are_those_of_qemu() {
    let machine = machine();
    let pci_io = "/machine/raven/pci-io[0]";
    let listed = machine.qom_list(pci_io).unwrap();
    let listed: Vec<_> = listed.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(
        listed,
        [
            ("type", "string"),
            ("container", "link<memory-region>"),
            ("addr", "uint64"),
            ("size", "uint64"),
            ("priority", "uint32"),
        ]
    );
    let get = |property| machine.qom_get(pci_io, property);
    assert_eq!(get("type"), Ok(text("memory-region")));
    assert_eq!(get("container"), Ok(text("/machine/unattached/system[0]")));
    assert_eq!(get("addr"), Ok(QomValue::Unsigned(2_147_483_648)));
    assert_eq!(get("size"), Ok(QomValue::Unsigned(1_065_353_216)));
    assert_eq!(get("priority"), Ok(QomValue::Signed(0)));
    // 2^64 bytes do not fit into 64 bits; a region that stands nowhere has no container.
    let system = "/machine/unattached/system[0]";
    assert_eq!(machine.qom_get(system, "size"), Ok(QomValue::Unsigned(u64::MAX)));
    assert_eq!(machine.qom_get(system, "container"), Ok(text("")));
}

#[test]
fn what_changes_is_told_anew() {
    let machine = machine();
    let memory = machine.memory();
    let owner = Owner::object("/machine/unattached");
    let region = memory.add(Region::reservation("background", WHOLE - 1).owner(&owner)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0, region, -1000)).unwrap();
    let get = |property| machine.qom_get("/machine/unattached/background[0]", property).unwrap();
    assert_eq!((get("priority"), get("size")), (QomValue::Signed(-1000), QomValue::Unsigned(u64::MAX)));
    memory
        .update(|t| {
            t.set_address(region, 0x10)?;
            t.set_size(region, 0x20)?;
            t.set_priority(region, 7)
        })
        .unwrap();
    assert_eq!((get("priority"), get("size")), (QomValue::Signed(7), QomValue::Unsigned(0x20)));
    assert_eq!(get("addr"), QomValue::Unsigned(0x10));
}

#[test]
fn names_of_regions_are_numbered_and_escaped() {
    let machine = machine();
    let memory = machine.memory();
    let owner = Owner::object("/machine/unattached");
    memory
        .update(|t| {
            for name in ["a/b", "x[1]", "back\\slash", "twice", "twice"] {
                t.add(Region::reservation(name, 1).owner(&owner))?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    for name in ["a\\x2fb[0]", "x\\x5b1\\x5d[0]", "back\\x5cslash[0]", "twice[0]", "twice[1]"] {
        let path = format!("/machine/unattached/{name}");
        assert_eq!(machine.qom_get(&path, "size"), Ok(QomValue::Unsigned(1)), "{path}");
        assert!(machine.qom().paths().contains(&path));
    }
}

#[test]
fn a_path_may_be_the_end_of_one_that_only_one_object_has() {
    let machine = machine();
    assert_eq!(machine.qom_get("pci-io[0]", "addr"), Ok(QomValue::Unsigned(0x8000_0000)));
    assert_eq!(machine.qom_get("raven", "pci-io[0]"), Ok(text("/machine/raven/pci-io[0]")));
    assert_eq!(machine.qom_get("/", "machine"), Ok(text("/machine")));
    let missing = |path: &str| Err(QomError::NoObject { path: path.to_owned() });
    for path in ["/machine/nope", "nope", "", "machine/raven/", "/machinery"] {
        assert_eq!(machine.qom_get(path, "type"), missing(path));
        assert_eq!(machine.qom_list(path), None);
    }
    let error = machine.qom_get("raven", "nope").unwrap_err();
    assert_eq!(error.to_string(), "Property 'raven-pcihost.nope' not found");
}

#[test]
fn a_back_ends_region_has_properties_mapped_or_not() {
    let mut config = MachineConfig::new("mips");
    config.start_stopped = true;
    config.serials = vec![SerialConfig::Spec(CharSpec::Null)];
    let machine = Machine::new(config).unwrap();
    let given = Properties::of_text("qom-type", "memory-backend-ram,id=spare,size=64k");
    machine.objects().add(MemdevSpec::of(given).unwrap()).unwrap();
    let get = |path: &str, property| machine.qom_get(path, property).unwrap();
    let spare = "/objects/spare/spare[0]";
    assert_eq!((get(spare, "size"), get(spare, "container")), (QomValue::Unsigned(64 << 10), text("")));
    let ram = "/objects/mips_r4k.ram/mips_r4k.ram[0]";
    assert_eq!(get(ram, "container"), text("/machine/unattached/system[0]"));
    assert_eq!(get(ram, "size"), QomValue::Unsigned(128 << 20));
}
