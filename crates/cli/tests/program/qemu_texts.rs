//! The monitor and QMP say what QEMU 7.2's say, word for word: the same commands to both, over QMP, on the 40p with the
//! same firmware file.
//!
//! Needs Debian's qemu-system-ppc; without it the test says that it was skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI)
//! it fails instead. Commands whose answers differ on purpose (`docs/deviations.md`) are not asked here.

use crate::driver::{Program, qemu_is_there};
use serde_json::{Value, json};
use std::path::Path;

/// Monitor commands whose whole output must be equal.
const COMMANDS: &[&str] = &[
    "",
    "foo",
    "info foo",
    "help foo",
    "help info foo",
    "help xp",
    "help help",
    "help cont",
    "help stop",
    "help sum",
    "help gpa2hva",
    "help system_reset",
    "help system_powerdown",
    "help print",
    "help i",
    "help o",
    "help quit",
    "help info status",
    "help info mtree",
    "help info qtree",
    "help info qom-tree",
    "help info ramblock",
    "help info roms",
    "help info name",
    "help info memory_size_summary",
    "help info history",
    "help calc_dirty_rate",
    "help cancel_vcpu_dirty_limit",
    "help set_vcpu_dirty_limit",
    "help dump-guest-memory",
    "help gpa2hpa",
    "help gva2gpa",
    "help info dirty_rate",
    "help info dump",
    "help info numa",
    "help info vcpu_dirty_limit",
    "help logfile",
    "help trace-event",
    "help info trace-events",
    "log",
    "log none",
    "log int trace",
    "logfile",
    "logfile /nowhere/x",
    "info trace-events memory_region_ops_*",
    "info trace-events memory_region_subpage_*",
    "info trace-events nonsense",
    "info trace-events nonsense*",
    "info trace-events memory_region_ops_* 0",
    "info trace-events memory_region_ops_* 3",
    "trace-event memory_region_ops_* on",
    "info trace-events memory_region_ops_*",
    "trace-event memory_region_ops_write off",
    "info trace-events memory_region_ops_*",
    "trace-event memory_region_ops_* off",
    "trace-event nonsense on",
    "trace-event nonsense* on",
    "trace-event",
    "trace-event memory_region_ops_read",
    "trace-event memory_region_ops_read maybe",
    "trace-event memory_region_ops_read off 0",
    "trace-event memory_region_ops_read off 1",
    "info numa",
    "info numa 1",
    "info dump",
    "info dump x",
    "dump-guest-memory",
    "dump-guest-memory -p",
    "dump-guest-memory -x foo",
    "dump-guest-memory -z -l /tmp/a",
    "dump-guest-memory -w -z /tmp/a",
    "dump-guest-memory /tmp/a 0",
    "dump-guest-memory /tmp/a 0 x",
    "dump-guest-memory /tmp/a 0 1 2",
    "dump-guest-memory -w /tmp/a",
    "dump-guest-memory -p -z /tmp/a",
    "dump-guest-memory -s /tmp/a 0 16",
    "info dirty_rate",
    "info dirty_rate 1",
    "calc_dirty_rate",
    "calc_dirty_rate 0",
    "calc_dirty_rate -r -b 0",
    "calc_dirty_rate -r -b 1",
    "calc_dirty_rate -5",
    "calc_dirty_rate 1 -5",
    "calc_dirty_rate 61",
    "calc_dirty_rate 1 64",
    "calc_dirty_rate 1 16385",
    "calc_dirty_rate 1 2 3",
    "calc_dirty_rate -r 1",
    "calc_dirty_rate -r 1 512",
    "info vcpu_dirty_limit",
    "info vcpu_dirty_limit x",
    "set_vcpu_dirty_limit",
    "set_vcpu_dirty_limit 10",
    "set_vcpu_dirty_limit 1 2 3",
    "cancel_vcpu_dirty_limit",
    "cancel_vcpu_dirty_limit 0 0",
    "gpa2hpa",
    "gpa2hpa 0 0",
    "gpa2hpa 0xbfffeff0",
    "gpa2hpa 0x90000000",
    "gva2gpa",
    "gva2gpa 0 0",
    "memsave 0 4 \"\"",
    "pmemsave 0 4 \"\"",
    "pmemsave 0 4 \"/tmp\"",
    "pmemsave 0 4 \"/tmp/a b\" x",
    "info status",
    "info name",
    "info memory_size_summary",
    "info mtree -x",
    "info mtree foo",
    "info mtree -fd",
    "stop foo",
    "cont 1",
    "x",
    "xp",
    "xp /4zz 0",
    "xp /4xw $foo",
    "xp (1+2",
    "xp 1/0",
    "xp 1%0",
    "xp 0 0",
    "xp 0x",
    "xp 08",
    "xp abc",
    "xp !",
    "xp 99999999999999999999999",
    "xp 'a",
    "xp '",
    "xp 0xfff08000",
    "xp /4 0xfff08000",
    "xp /8xb 0xfff08000",
    "xp 0xfff08000",
    "xp/20xh 0xfff08000",
    "xp /20xw 0xfff08002",
    "xp /20xg 0xfff08001",
    "xp /20ob 0xfff08000",
    "xp /20oh 0xfff08000",
    "xp /20ow 0xfff08000",
    "xp /20og 0xfff08000",
    "xp /20db 0xfff08000",
    "xp /20dh 0xfff08000",
    "xp /20dw 0xfff08000",
    "xp /20dg 0xfff08000",
    "xp /20ub 0xfff08000",
    "xp /20uh 0xfff08000",
    "xp /20uw 0xfff08000",
    "xp /20ug 0xfff08000",
    "xp /200cb 0xfff08000",
    "xp /20cw 0xfff08000",
    "xp /bx 0xfff08000",
    "xp /xbw 0xfff08000",
    "xp /0x 0xfff08000",
    "xp /-1x 0",
    "xp /4xw 0xfff08000+(4*2)-8&0xffffffff|4^1",
    "xp /xw 0x10+0x20*2",
    "xp /xw 'a'",
    "print 1+2",
    "print/x 10",
    "p/c 65",
    "p/c 10",
    "p/c 39",
    "p/d -5",
    "p/u -5",
    "p/o 8",
    "p/o 0",
    "p/i 5",
    "p/x ~0",
    "print 5 6",
    "print/zz 5",
    "sum 0xfff00000 0x10000",
    "sum 0x90000000 16",
    "sum 0",
    "gpa2hva",
    "gpa2hva 0 0",
    "gpa2hva 0xbfffeff0",
    "gpa2hva 0x90000000",
    "memsave",
    "memsave 0",
    "memsave 0 16 /tmp/a",
    "memsave 0 -1 \"/tmp/a\"",
    "pmemsave 0 16 \"/nonexistent/a\"",
    "pmemsave 0 0x100000000 \"/tmp/a",
    "pmemsave 0 4",
    "i /b 0x3e7",
    "i /h 0x3e7",
    "i /w 0x3e4",
    "o /b 0x3e7 5",
    "info mtree -x -f",
    "help object_add",
    "help object_del",
    "help device_add",
    "help device_del",
    "help info memdev",
    "help info memory-devices",
    "info memdev",
    "info memory-devices",
    "info qom-tree /objects",
    "object_add memory-backend-ram,id=m1,size=64k",
    "info memdev",
    "info qom-tree /objects",
    "info memory_size_summary",
    "qom-list /objects",
    "qom-list /objects/m1/m1[0]",
    "qom-get /objects/m1 type",
    "qom-get /objects/m1 m1[0]",
    "qom-get /objects/m1/m1[0] container",
    "qom-get /objects/m1/m1[0] size",
    "object_add memory-backend-ram,id=m1,size=64k",
    "object_del m1",
    "object_del m1",
    "info memdev",
    "object_add memory-backend-memfd,id=m2,size=64k,merge=off,dump=off,prealloc=on",
    "info memdev",
    "object_del m2",
    "object_add memory-backend-ram,id=1m,size=64k",
    "object_add memory-backend-ram,id=m1",
    "object_add memory-backend-ram,size=64k",
    "object_add id=m1",
    "object_add memory-backend-file,id=m1,size=64k",
    "object_add memory-backend-ram,id=m1,size=64k,share=maybe",
    "object_add",
    "object_del",
    "device_del",
    "device_del d0",
    "device_add foo",
    "device_add foo,id=x",
    "help qom-get",
    "help qom-list",
    "qom-list",
    "qom-list /nope",
    "qom-list /machine/raven/pci-io[0]",
    "qom-get",
    "qom-get /machine",
    "qom-get /machine/nope addr",
    "qom-get /machine/raven/pci-io[0] nope",
    "qom-get /machine/raven/pci-io[0] type",
    "qom-get /machine/raven/pci-io[0] addr",
    "qom-get /machine/raven/pci-io[0] size",
    "qom-get /machine/raven/pci-io[0] priority",
    "qom-get /machine/raven/pci-io[0] container",
    "qom-get /machine/raven/pci-io-non-contiguous[0] priority",
    "qom-get pci-io[0] addr",
    "qom-get raven pci-io[0]",
    "qom-get /machine/unattached/system[0] size",
    "qom-get /machine/unattached/system[0] container",
    "qom-get / machine",
    "qom-get / type",
];

/// What is sent over QMP as it stands; the replies must be equal but for the wording of JSON errors.
const QMP: &[&str] = &[
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "memory_region_ops_*"}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "nonsense"}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "nonsense*"}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "memory_region_ops_*", "vcpu": 0}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "memory_region_ops_*", "vcpu": 2}}"#,
    r#"{"execute": "trace-event-get-state"}"#,
    r#"{"execute": "trace-event-set-state", "arguments": {"name": "memory_region_ops_read", "enable": true}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "memory_region_ops_*"}}"#,
    r#"{"execute": "trace-event-set-state", "arguments": {"name": "*_ops_read", "enable": false}}"#,
    r#"{"execute": "trace-event-get-state", "arguments": {"name": "memory_region_ops_read"}}"#,
    r#"{"execute": "trace-event-set-state", "arguments": {"name": "nonsense", "enable": true}}"#,
    r#"{"execute": "trace-event-set-state", "arguments": {"name": "nonsense"}}"#,
    "{\"execute\":\"foo\",\"id\":\"x\"}",
    "{\"foo\":1}",
    "[1,2]",
    "\"x\"",
    "{\"execute\":1}",
    "{\"execute\":\"query-status\",\"arguments\":{\"a\":1}}",
    "{\"execute\":\"query-status\",\"arguments\":1}",
    "{\"execute\":\"query-status\",\"bar\":1,\"id\":7}",
    "{\"execute\":\"query-status\",\"id\":{\"b\":[1,2.5,null],\"a\":\"\\u00e9\"}}",
    "{'execute':'query-status'}",
    "{\"execute\":\"query-name\"}",
    "{\"execute\":\"query-kvm\"}",
    "{\"execute\":\"query-memory-size-summary\"}",
    "{\"execute\":\"human-monitor-command\"}",
    "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":1}}",
    "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"help\",\"cpu-index\":5}}",
    "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"help\",\"cpu\":5}}",
    "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":0,\"size\":4,\"filename\":\"/nonexist/z\"}}",
    "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":0,\"size\":4}}",
    "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":\"0\",\"size\":4,\"filename\":\"z\"}}",
    "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":1.5,\"size\":4,\"filename\":\"z\"}}",
    "{\"execute\":\"memsave\",\"arguments\":{\"val\":0,\"size\":4,\"filename\":\"/nonexist/z\",\"cpu-index\":3}}",
    "{\"execute\":\"x-query-numa\"}",
    "{\"execute\":\"query-vcpu-dirty-limit\"}",
    "{\"execute\":\"cancel-vcpu-dirty-limit\"}",
    "{\"execute\":\"set-vcpu-dirty-limit\"}",
    "{\"execute\":\"set-vcpu-dirty-limit\",\"arguments\":{\"dirty-rate\":10}}",
    "{\"execute\":\"set-vcpu-dirty-limit\",\"arguments\":{\"dirty-rate\":\"a\"}}",
    "{\"execute\":\"set-vcpu-dirty-limit\",\"arguments\":{\"dirty-rate\":10,\"cpu-index\":\"a\"}}",
    "{\"execute\":\"query-dirty-rate\"}",
    "{\"execute\":\"calc-dirty-rate\"}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":\"1\"}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":0}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":-1}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":61}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"mode\":\"foo\"}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"mode\":1}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"mode\":\"dirty-ring\"}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"mode\":\"dirty-ring\",\"sample-pages\":5}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"sample-pages\":127}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"sample-pages\":-1}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1.5}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":18446744073709551615}}",
    "{\"execute\":\"calc-dirty-rate\",\"arguments\":{\"calc-time\":1,\"foo\":1}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"foo\":1}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"begin\":18446744073709551615}}",
    "{\"execute\":\"query-dump\"}",
    "{\"execute\":\"dump-guest-memory\"}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":\"no\",\"protocol\":\"file:/tmp/a\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"/tmp/a\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"file:\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"file:/tmp\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"file:/nonexistent/a\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"begin\":0}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"length\":0}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"begin\":\"x\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"detach\":\"x\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"format\":\"foo\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":true,\"protocol\":\"bad\",\"format\":\"kdump-zlib\"}}",
    "{\"execute\":\"dump-guest-memory\",\"arguments\":{\"paging\":false,\"protocol\":\"bad\",\"format\":\"win-dmp\"}}",
    "{\"execute\":\"query-memdev\"}",
    "{\"execute\":\"query-memory-devices\"}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\",\"size\":65536}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\",\"size\":65536}}",
    "{\"execute\":\"query-memdev\"}",
    "{\"execute\":\"object-del\",\"arguments\":{\"id\":\"m1\"}}",
    "{\"execute\":\"object-del\",\"arguments\":{\"id\":\"m1\"}}",
    "{\"execute\":\"object-del\"}",
    "{\"execute\":\"object-add\"}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\"}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\",\"size\":\"64M\"}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\",\"size\":4096,\"foo\":1}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"foo\",\"id\":\"m1\",\"size\":4096}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"id\":\"m1\",\"size\":4096}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"size\":4096}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\",\"size\":4096,\"share\":\"on\"}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"1m\",\"size\":4096}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m4\",\"size\":4096,\"policy\":\"bad\"}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m4\",\"size\":4096,\"policy\":1}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m4\",\"size\":4096,\"host-nodes\":0}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m4\",\"size\":4096,\"host-nodes\":[\"x\"]}}",
    "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"memory-backend-ram\",\"id\":\"m3\",\"size\":4096,\"policy\":\"bind\",\"host-nodes\":[0]}}",
    "{\"execute\":\"query-memdev\"}",
    "{\"execute\":\"device_add\",\"arguments\":{\"id\":\"d0\"}}",
    "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"foo\",\"id\":\"d0\"}}",
    "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"d0\"}}",
    "{\"execute\":\"device_del\"}",
    "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/raven/pci-io[0]\",\"property\":\"addr\"}}",
    "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/raven/pci-io[0]\",\"property\":\"x\"}}",
    "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/x\",\"property\":\"addr\"}}",
    "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine\"}}",
    "{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine/raven/pci-io[0]\"}}",
    "{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/x\"}}",
    "{\"execute\":\"qmp_capabilities\"}",
    "{\"execute\":\"stop\"}",
    "{\"execute\" \"query-status\"}",
    "{bad}",
    "}",
    "{\"execute\":\"query-status\"}",
];

/// A QMP client of one of the two programs.
pub(crate) struct Qmp(Program);

impl Qmp {
    fn start(program: &str, firmware: &Path, more: &[&str]) -> Self {
        let firmware = firmware.to_str().unwrap();
        Self::of(program, &[&["-M", "40p", "-m", "128", "-bios", firmware], more].concat())
    }

    /// Starts a program with a machine that stands still.
    pub(crate) fn of(program: &str, args: &[&str]) -> Self {
        let args = [&["-S", "-display", "none", "-qmp", "stdio"], args].concat();
        let mut qmp = Self(Program::start_other(program, &args));
        qmp.0.wait_for("\"QMP\"");
        qmp.0.wait_for("\n");
        qmp.ask("{\"execute\": \"qmp_capabilities\"}");
        qmp
    }

    /// Sends a text and reads one reply.
    fn ask(&mut self, text: &str) -> Value {
        self.0.send(&format!("{text}\n"));
        let reply = self.0.wait_for("\n");
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{text}: {error}: {reply:?}"))
    }

    pub(crate) fn monitor(&mut self, command: &str) -> String {
        let arguments = json!({"command-line": command});
        let reply =
            self.ask(&json!({"execute": "human-monitor-command", "arguments": arguments}).to_string());
        reply["return"].as_str().unwrap().to_owned()
    }
}

/// Makes the part of an answer that may differ equal: how a JSON error is worded.
fn comparable(reply: &Value) -> Value {
    let mut reply = reply.clone();
    if reply["error"]["desc"].as_str().is_some_and(|desc| desc.starts_with("JSON parse error, ")) {
        reply["error"]["desc"] = "JSON parse error".into();
    }
    reply
}

#[test]
fn the_monitor_and_qmp_say_what_qemu_says() {
    let Some(qemu) = qemu_is_there() else { return };
    let folder = tempfile::tempdir().unwrap();
    let firmware = folder.path().join("firmware");
    // All bytes occur, and at every alignment; it must not look like an ELF file.
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&firmware, bytes).unwrap();
    let mut ours = Qmp::start(env!("CARGO_BIN_EXE_flatview"), &firmware, &[]);
    // Without these it wants files from packages that are not needed here.
    let mut theirs = Qmp::start(qemu, &firmware, &["-vga", "none", "-net", "none"]);
    let mut different = Vec::new();
    for command in COMMANDS {
        let said = |qmp: &mut Qmp| {
            let text = qmp.monitor(command);
            // Of a command's help, its name and parameters: the explanation is our own.
            match text.split_once(" -- ") {
                Some((usage, _)) if command.starts_with("help ") => usage.to_owned(),
                _ => text,
            }
        };
        let (a, b) = (said(&mut ours), said(&mut theirs));
        if a != b {
            different.push(format!("{command}\n  ours   {a:?}\n  theirs {b:?}"));
        }
    }
    for text in QMP {
        let (a, b) = (comparable(&ours.ask(text)), comparable(&theirs.ask(text)));
        if a != b {
            different.push(format!("{text}\n  ours   {a}\n  theirs {b}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
