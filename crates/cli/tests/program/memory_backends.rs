//! Memory back ends and memory devices through the built program: options, monitor, QMP and qtest.

use crate::driver::{Client, Program, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What the monitor answered to `command`.
fn answer<'a>(transcript: &'a str, command: &str) -> &'a str {
    let (_, rest) = transcript.split_once(&format!("(qemu) {command}\n")).expect(transcript);
    rest.split_once("(qemu) ").map_or(rest, |(answer, _)| answer)
}

/// Runs the monitor of a machine with these options.
fn monitor(args: &[&str], commands: &str) -> String {
    let said = run(&[args, &["-S", "-monitor", "stdio"]].concat(), commands);
    assert!(said.status.success(), "{said:?}");
    said.out
}

/// What is said on standard error when a machine cannot be.
fn refusal(args: &[&str]) -> String {
    let said = run(&[args, &["-display", "none", "-S"]].concat(), "");
    assert_eq!(said.status.code(), Some(1), "{args:?}: {said:?}");
    assert!(said.err.starts_with("flatview: "), "{}", said.err);
    said.err
}

#[test]
fn info_memdev_and_ramblock_print_what_qemu_prints() {
    let out = monitor(
        &[
            "-M",
            "mips",
            "-m",
            "64M",
            "-object",
            "memory-backend-ram,id=m0,size=64M",
            "-machine",
            "memory-backend=m0",
        ],
        "info memdev\ninfo ramblock\ninfo memory_size_summary\ninfo memory-devices\ninfo qom-tree /objects\ninfo mtree\n",
    );
    assert_eq!(
        answer(&out, "info memdev"),
        "memory backend: m0\n  size:  67108864\n  merge: true\n  dump: true\n  prealloc: false\n  share: false\n  \
         reserve: true\n  policy: default\n  host nodes: \n\n"
    );
    let blocks = answer(&out, "info ramblock");
    assert!(
        blocks.starts_with(
            "              Block Name    PSize              Offset               Used              Total\n\
             \x20                     m0    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000\n"
        ),
        "{blocks}"
    );
    assert_eq!(answer(&out, "info memory_size_summary"), "base memory: 67108864\nplugged memory: 0\n");
    assert_eq!(answer(&out, "info memory-devices"), "");
    assert_eq!(
        answer(&out, "info qom-tree /objects"),
        "/objects (container)\n  /m0 (memory-backend-ram)\n    /m0[0] (memory-region)\n"
    );
    assert!(answer(&out, "info mtree").contains("0000000000000000-0000000003ffffff (prio 0, ram): m0\n"));
}

#[test]
fn back_ends_are_listed_in_the_order_in_which_they_were_made_and_under_their_names() {
    let objects = ["zulu", "alfa", "mike"].map(|id| format!("memory-backend-ram,id={id},size=64k"));
    let mut args = vec!["-M", "mips"];
    args.extend(objects.iter().flat_map(|object| ["-object", object.as_str()]));
    let out = monitor(&args, "info memdev\ninfo ramblock\n");
    let memdev = answer(&out, "info memdev");
    let names: Vec<_> = memdev.lines().filter_map(|line| line.strip_prefix("memory backend: ")).collect();
    assert_eq!(names.iter().filter(|n| n.len() == 4).collect::<Vec<_>>(), [&"zulu", &"alfa", &"mike"]);
    // Nobody uses them, and they have their names all the same.
    let blocks = answer(&out, "info ramblock");
    for name in ["zulu", "alfa", "mike"] {
        assert!(blocks.lines().any(|line| line.split_whitespace().next() == Some(name)), "{blocks}");
    }
}

#[test]
fn a_board_that_names_its_ram_has_it_as_a_back_end_too() {
    let out =
        monitor(&["-M", "mips", "-m", "32M", "-mem-prealloc"], "info memdev\nobject_del mips_r4k.ram\n");
    let memdev = answer(&out, "info memdev");
    assert!(memdev.starts_with("memory backend: mips_r4k.ram\n  size:  33554432\n"), "{memdev}");
    assert!(memdev.contains("  prealloc: true\n"));
    assert_eq!(
        answer(&out, "object_del mips_r4k.ram"),
        "Error: object 'mips_r4k.ram' is in use, can not be deleted\n"
    );
    assert_eq!(answer(&monitor(&["-M", "40p"], "info memdev\n"), "info memdev"), "\n", "the 40p has SIMMs");
}

#[test]
fn guest_ram_in_a_shared_file_is_the_file_on_every_board() {
    for (board, size) in [("mips", "16M"), ("40p", "16M"), ("cpiom", "64M")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ram");
        let object = format!("memory-backend-file,id=m0,size={size},share=on,mem-path={}", file.display());
        let args =
            ["-M", board, "-object", &object, "-machine", "memory-backend=m0", "-S", "-qtest", "stdio"];
        // The second half of the 40p's RAM is its second SIMM.
        let said = run(&args, "writeb 0x123456 0xa5\nwriteb 0x900001 0x5a\nreadb 0x900001\n");
        assert!(said.out.ends_with("OK 0x000000000000005a\n"), "{board}: {said:?}");
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes.len(), if board == "cpiom" { 64 << 20 } else { 16 << 20 });
        assert_eq!((bytes[0x12_3456], bytes[0x90_0001]), (0xa5, 0x5a), "{board}");
    }
}

#[test]
fn mem_path_takes_a_file_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for board in ["mips", "40p"] {
        let said = run(
            &["-M", board, "-m", "16", "-mem-path", path, "-S", "-qtest", "stdio"],
            "writeb 5 7\nreadb 5\n",
        );
        assert!(said.out.ends_with("OK 0x0000000000000007\n"), "{said:?}");
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "a temporary file has no name");
    }
    let file = folder.path().join("ram");
    monitor(&["-M", "mips", "-m", "16", "-mem-path", file.to_str().unwrap()], "info memdev\n");
    assert_eq!(fs::metadata(&file).unwrap().len(), 16 << 20);
    let both = ["-M", "mips", "-mem-path", path, "-machine", "memory-backend=m0"];
    let both = [&both[..], &["-object", "memory-backend-ram,id=m0,size=64M"]].concat();
    assert!(refusal(&both).contains("'-mem-path' can't be used together with '-machine memory-backend'"));
}

#[test]
fn a_memory_size_that_is_left_out_is_that_of_the_back_end() {
    let object = ["-object", "memory-backend-memfd,id=m0,size=48M", "-machine", "mips,memory-backend=m0"];
    let out = monitor(&object, "info memory_size_summary\ninfo memdev\n");
    assert!(out.contains("base memory: 50331648\n"), "{out}");
    assert!(out.contains("  share: true\n"), "{out}");
    let mismatch = refusal(&[&object[..], &["-m", "64M"]].concat());
    assert!(
        mismatch.contains("Machine memory size does not match the size of the memory backend"),
        "{mismatch}"
    );
    assert!(mismatch.contains("leave out -m"), "{mismatch}");
}

#[test]
fn bad_back_ends_are_refused_in_the_words_of_qemu_with_a_cure() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    fs::write(&small, [0; 5120]).unwrap();
    let at =
        |rest: &str| format!("memory-backend-file,id=m0,size=64k,mem-path={}{rest}", folder.path().display());
    for (object, parts) in [
        ("memory-backend-ram,id=m0".to_owned(), &["Parameter 'size' is missing"][..]),
        ("memory-backend-ram,size=4k".to_owned(), &["Parameter 'id' is missing"]),
        (
            "memory-backend-ram,id=m0,size=4k,foo=1".to_owned(),
            &["Invalid parameter 'foo'", "memory-backend-ram takes: dump, host-nodes,"],
        ),
        (
            "memory-backend-ram,id=m0,size=abc".to_owned(),
            &["Parameter 'size' expects a size value", "suffixes"],
        ),
        (
            "memory-backend-ram,id=m0,size=0".to_owned(),
            &["property 'size' of memory-backend-ram doesn't take value '0'"],
        ),
        (
            "memory-backend-ram,id=1m,size=4k".to_owned(),
            &["Parameter 'id' expects an identifier", "Identifiers consist"],
        ),
        (
            "foo,id=m0,size=4k".to_owned(),
            &["Parameter 'qom-type' does not accept value 'foo'", "memory-backend-memfd"],
        ),
        ("memory-backend-ram,id=m0,size=4k,policy=bind".to_owned(), &["policy bind", "host-nodes=0-1"]),
        (
            "memory-backend-ram,id=m0,size=4k,policy=bind,host-nodes=99".to_owned(),
            &["nodes 99", "numactl -H"],
        ),
        (
            "memory-backend-ram,id=m0,size=999999T".to_owned(),
            &["'m0'", "Cannot allocate memory", "ask for less"],
        ),
        ("memory-backend-file,id=m0,size=64M".to_owned(), &["Parameter 'mem-path' is missing"]),
        (at("/small"), &["has 0x1400 bytes, but 0x10000 are needed", "truncate -s"]),
        (at("/missing/file"), &["There is no folder for", "mkdir -p"]),
        (at(",align=3"), &["Alignment 0x3", "power of two"]),
        (at(",offset=1"), &["Offset 0x1"]),
        (at("/no,readonly=on"), &["There is no file", "truncate -s"]),
        (
            "memory-backend-memfd,id=m0,size=3M,hugetlb=on,hugetlbsize=3M".to_owned(),
            &["Huge pages of 0x300000 bytes"],
        ),
    ] {
        let err = refusal(&["-M", "mips", "-object", &object]);
        assert!(err.contains("-object memory-backend-") || err.contains("-object foo"), "{err}");
        for part in parts {
            assert!(err.contains(part), "{object}: {err}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    let ram = "memory-backend-ram,id=m0,size=1M";
    assert!(
        refusal(&["-M", "mips", "-object", ram, "-object", ram]).contains("Duplicate ID 'm0' for object")
    );
    let taken = "memory-backend-ram,id=mips_r4k.ram,size=1M";
    assert!(refusal(&["-M", "mips", "-object", taken]).contains("is reserved for the default RAM backend"));
    let missing = refusal(&["-M", "mips", "-machine", "memory-backend=zz"]);
    assert!(missing.contains("Memory backend 'zz' not found") && missing.contains("id=zz"), "{missing}");
}

#[test]
fn no_huge_pages_say_how_to_get_them() {
    // Where there are some, the machine starts.
    let args = ["-M", "mips", "-display", "none", "-S", "-qmp", "stdio", "-object"];
    let said = run(&[&args[..], &["memory-backend-memfd,id=m0,size=64M,hugetlb=on"]].concat(), "");
    assert!(
        said.status.success()
            || said.err.contains("sysctl vm.nr_hugepages=")
            || said.err.contains("do not exist here"),
        "{said:?}"
    );
}

#[test]
fn preallocation_says_nothing_where_nobody_watches() {
    let said = run(
        &[
            "-M",
            "mips",
            "-m",
            "128",
            "-mem-prealloc",
            "-S",
            "-monitor",
            "stdio",
            "-object",
            "memory-backend-ram,id=m1,size=256M,prealloc=on,prealloc-threads=4",
        ],
        "info memdev\n",
    );
    let lines: Vec<_> = said.err.lines().filter(|line| !line.contains("warning: ")).collect();
    assert!(lines.is_empty(), "{said:?}");
    assert_eq!(said.out.matches("  prealloc: true\n").count(), 2);
}

#[test]
fn questions_about_objects_are_answered() {
    for (args, part) in [
        (&["-object", "help"][..], "List of user creatable objects:\n  memory-backend-file\n"),
        (&["-object", "memory-backend-file,help"], "  mem-path=<string>"),
        (
            &["-object", "memory-backend-memfd,help"],
            "  hugetlbsize=<int>      - Huge pages size (ex: 2M, 1G)\n",
        ),
        (&["-device", "pc-dimm,help"], "  memdev=<link<memory-backend>> "),
        (&["-device", "help"], "pc-dimm "),
    ] {
        let said = run(args, "");
        assert!(said.status.success() && said.err.is_empty(), "{args:?}: {said:?}");
        assert!(said.out.contains(part), "{args:?}: {}", said.out);
    }
}

/// A QMP session on a socket.
struct Qmp(Client);

impl Qmp {
    fn connect(path: &Path) -> Self {
        let mut client = Client::connect(path);
        client.line();
        client.ask("{\"execute\": \"qmp_capabilities\"}");
        Self(client)
    }

    /// Carries out a command; gives the events before the reply, and the reply.
    fn ask(&mut self, command: &str, arguments: &Value) -> (Vec<Value>, Value) {
        self.0.send(&format!("{}\n", json!({"execute": command, "arguments": arguments})));
        let mut events = Vec::new();
        loop {
            let line: Value = serde_json::from_str(&self.0.line()).unwrap();
            if line.get("event").is_none() {
                return (events, line);
            }
            events.push(line);
        }
    }

    fn done(&mut self, command: &str, arguments: &Value) -> Value {
        let (_, reply) = self.ask(command, arguments);
        reply.get("return").unwrap_or_else(|| panic!("{command} {arguments}: {reply}")).clone()
    }

    fn error(&mut self, command: &str, arguments: &Value) -> (String, String) {
        let (_, reply) = self.ask(command, arguments);
        let text = |name: &str| reply["error"][name].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
        (text("class"), text("desc"))
    }
}

fn start_cpiom(folder: &Path, memory: &str, more: &[&str]) -> (Program, Qmp, Client) {
    let (qmp, qtest) = (folder.join("qmp"), folder.join("qtest"));
    let on = |path: &Path| format!("unix:{},server,nowait", path.display());
    let (qmp_on, qtest_on) = (on(&qmp), on(&qtest));
    let args = ["-M", "cpiom", "-m", memory, "-S", "-display", "none", "-qmp", &qmp_on, "-qtest", &qtest_on];
    let program = Program::start(&[&args, more].concat());
    (program, Qmp::connect(&qmp), Client::connect(&qtest))
}

#[test]
fn a_dimm_is_plugged_used_and_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let (_program, mut qmp, mut guest) = start_cpiom(folder.path(), "64M,slots=2,maxmem=1G", &[]);
    assert_eq!(qmp.done("query-memory-devices", &json!({})), json!([]));
    let m1 = json!({"qom-type": "memory-backend-ram", "id": "m1", "size": 256 << 20});
    qmp.done("object-add", &m1);
    assert_eq!(guest.ask("readl 0x40000000"), "OK 0x0000000000000000");
    guest.ask("writel 0x40000000 0x11223344");
    assert_eq!(guest.ask("readl 0x40000000"), "OK 0x0000000000000000", "nothing is there yet");
    qmp.done("device_add", &json!({"driver": "pc-dimm", "id": "d0", "memdev": "m1"}));
    assert_eq!(
        qmp.done("query-memory-devices", &json!({})),
        json!([{"type": "dimm", "data": {
            "memdev": "/objects/m1", "hotplugged": true, "addr": 0x4000_0000, "hotpluggable": true,
            "size": 256 << 20, "slot": 0, "node": 0, "id": "d0"
        }}])
    );
    assert_eq!(
        qmp.done("query-memory-size-summary", &json!({})),
        json!({"base-memory": 64 << 20, "plugged-memory": 256 << 20})
    );
    let hmp = |qmp: &mut Qmp, line: &str| {
        let text = qmp.done("human-monitor-command", &json!({"command-line": line}));
        text.as_str().unwrap().replace("\r\n", "\n")
    };
    assert_eq!(
        hmp(&mut qmp, "info memory-devices"),
        "Memory device [dimm]: \"d0\"\n  addr: 0x40000000\n  slot: 0\n  node: 0\n  size: 268435456\n  \
         memdev: /objects/m1\n  hotplugged: true\n  hotpluggable: true\n"
    );
    assert_eq!(
        hmp(&mut qmp, "info memory_size_summary"),
        "base memory: 67108864\nplugged memory: 268435456\n"
    );
    let mtree = hmp(&mut qmp, "info mtree");
    assert!(
        mtree.contains(
            "    0000000040000000-000000007bffffff (prio 0, i/o): device-memory\n      \
             0000000040000000-000000004fffffff (prio 0, ram): m1\n"
        ),
        "{mtree}"
    );
    assert_eq!(
        hmp(&mut qmp, "info qom-tree /machine/peripheral"),
        "/peripheral (container)\n  /d0 (pc-dimm)\n"
    );
    let blocks = hmp(&mut qmp, "info ramblock");
    assert!(blocks.lines().nth(1).unwrap().trim_start().starts_with("m1 "), "the largest: {blocks}");
    guest.ask("writel 0x4ffffffc 0x11223344");
    assert_eq!(guest.ask("readl 0x4ffffffc"), "OK 0x0000000011223344");
    assert_eq!(
        qmp.error("object-del", &json!({"id": "m1"})),
        ("GenericError".to_owned(), "object 'm1' is in use, can not be deleted".to_owned())
    );
    let (events, reply) = qmp.ask("device_del", &json!({"id": "d0"}));
    assert_eq!(reply, json!({"return": {}}));
    assert_eq!(events[0]["event"], "DEVICE_DELETED");
    assert_eq!(events[0]["data"], json!({"device": "d0", "path": "/machine/peripheral/d0"}));
    assert_eq!(guest.ask("readl 0x4ffffffc"), "OK 0x0000000000000000");
    assert_eq!(qmp.done("query-memory-devices", &json!({})), json!([]));
    // The back end keeps its bytes until it goes.
    qmp.done("device_add", &json!({"driver": "pc-dimm", "memdev": "m1", "slot": 1, "addr": 0x5000_0000_u64}));
    assert_eq!(guest.ask("readl 0x5ffffffc"), "OK 0x0000000011223344");
}

#[test]
fn a_dimm_that_does_not_fit_gets_the_errors_of_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let (_program, mut qmp, _) = start_cpiom(folder.path(), "64M,slots=2,maxmem=832M", &[]);
    let mib = |n: u64| n << 20;
    for (id, size) in
        [("m0", mib(256)), ("m1", mib(256)), ("m2", mib(256)), ("odd", 4096), ("big", mib(1024))]
    {
        qmp.done("object-add", &json!({"qom-type": "memory-backend-ram", "id": id, "size": size}));
    }
    let dimm = |more: Value| {
        let mut all = json!({"driver": "pc-dimm"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    qmp.done("device_add", &dimm(json!({"id": "d0", "memdev": "m0", "addr": 0x5000_0000_u64})));
    for (more, class, desc) in [
        (json!({"id": "d0", "memdev": "m1"}), "GenericError", "Duplicate device ID 'd0'"),
        (json!({"id": "d1", "memdev": "m0"}), "GenericError", "can't use already busy memdev: m0"),
        (json!({"id": "d1"}), "GenericError", "'memdev' property must be set"),
        (json!({"id": "d1", "memdev": "zz"}), "DeviceNotFound", "Device 'zz' not found"),
        (json!({"id": "d1", "memdev": "m1", "foo": 1}), "GenericError", "Property 'pc-dimm.foo' not found"),
        (json!({"id": "1d", "memdev": "m1"}), "GenericError", "Parameter 'id' expects an identifier"),
        (
            json!({"id": "d1", "memdev": "m1", "slot": "x"}),
            "GenericError",
            "Parameter 'slot' expects integer",
        ),
        (json!({"id": "d1", "memdev": "m1", "slot": 0}), "GenericError", "slot 0 is busy"),
        (
            json!({"id": "d1", "memdev": "m1", "slot": 2}),
            "GenericError",
            "invalid slot number 2, valid range is [0-1]",
        ),
        (
            json!({"id": "d1", "memdev": "m1", "addr": 0x5000_0000_u64}),
            "GenericError",
            "address range conflicts with memory device id='d0'",
        ),
        (
            json!({"id": "d1", "memdev": "m1", "addr": 0x4000_0004_u64}),
            "GenericError",
            "address must be aligned to 0x200000 bytes",
        ),
        (
            json!({"id": "d1", "memdev": "m1", "addr": 0x7000_0000_u64}),
            "GenericError",
            "can't add memory device [0x70000000:0x10000000], usable range for memory devices [0x40000000:0x30000000]",
        ),
        (
            json!({"id": "d1", "memdev": "odd"}),
            "GenericError",
            "backend memory size must be multiple of 0x200000",
        ),
        (
            json!({"id": "d1", "memdev": "big"}),
            "GenericError",
            "not enough space, currently 0x10000000 in use of total space for memory devices 0x30000000",
        ),
        (
            json!({"id": "d1", "memdev": "m1", "node": 7}),
            "GenericError",
            "'DIMM property node has value 7' which exceeds the number of numa nodes: 1",
        ),
    ] {
        assert_eq!(qmp.error("device_add", &dimm(more)), (class.to_owned(), desc.to_owned()));
    }
    qmp.done("device_add", &dimm(json!({"id": "d1", "memdev": "m1"})));
    assert_eq!(
        qmp.error("device_add", &dimm(json!({"id": "d2", "memdev": "m2"}))).1,
        "no free slots available"
    );
    assert_eq!(
        qmp.error("device_del", &json!({"id": "d7"})),
        ("DeviceNotFound".to_owned(), "Device 'd7' not found".to_owned())
    );
    assert_eq!(
        qmp.error("device_add", &json!({"driver": "foo"})).1,
        "'foo' is not a valid device model name"
    );
    assert_eq!(
        qmp.error("device_add", &json!({"driver": "pc-testdev"})).1,
        "Bus 'isa.0' does not support hotplugging"
    );
}

#[test]
fn a_dimm_can_be_there_from_the_start_on_a_board_that_has_room_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dimm");
    let object = format!("memory-backend-file,id=m1,size=2M,share=on,mem-path={}", file.display());
    let more = ["-object", &object, "-device", "pc-dimm,id=d0,memdev=m1"];
    let (_program, mut qmp, mut guest) = start_cpiom(folder.path(), "64M,slots=1,maxmem=128M", &more);
    guest.ask("writeb 0x40000003 0x77");
    assert_eq!(fs::read(&file).unwrap()[3], 0x77);
    let devices = qmp.done("query-memory-devices", &json!({}));
    assert_eq!(devices[0]["data"]["hotplugged"], json!(false));

    let ram = ["-object", "memory-backend-ram,id=m1,size=2M", "-device", "pc-dimm,id=d0,memdev=m1"];
    let on = |board: &str, memory: &str| refusal(&[&["-M", board, "-m", memory][..], &ram].concat());
    assert!(on("mips", "64M,slots=1,maxmem=1G").contains("are not supported by the machine"));
    assert!(on("mips", "64M,slots=1,maxmem=1G").contains("the board 'cpiom' has"));
    assert!(on("cpiom", "64M").contains("are not enabled, please specify the maxmem option"));
    assert!(on("cpiom", "64M,maxmem=1G").contains("please specify the 'slots' option"));
    assert!(on("cpiom", "64M,maxmem=1M").contains("must be at least the initial memory size (0x4000000)"));
    assert!(on("cpiom", "64M,slots=1,maxmem=64M").contains("is equal to the initial memory size"));
    assert!(on("cpiom", "64M,slots=1,maxmem=64G").contains("the board has addresses for 0xbc000000 bytes"));
    assert!(on("cpiom", "64M,slots=1").contains("slots specified but no max-size"));
}
