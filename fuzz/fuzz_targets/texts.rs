//! What users and programs type, a line each: expressions of the monitor, commands of qtest, sizes, character devices, `-object` and
//! `-device`. Each is taken or refused; nothing is opened.

#![no_main]

use flatview_board::{DimmSpec, MemdevSpec, Properties, parse_size};
use flatview_device::chardev::CharSpec;
use flatview_monitor::{gdb, hmp, qtest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        let register = |name: &str| (name.len() < 4).then_some(name.len() as u64);
        if let Ok((_, rest)) = hmp::expr::parse(line, &register) {
            assert!(line.ends_with(rest));
        }
        let _ = hmp::expr::c_number(line);
        let (from, _) = hmp::complete(line);
        assert!(line.is_char_boundary(from));
        let _ = qtest::parse(line);
        let _ = parse_size(line, 20);
        let _ = CharSpec::parse(line);
        let _ = gdb::spec(line);
        let _ = MemdevSpec::of(Properties::of_text("qom-type", line));
        let _ = DimmSpec::of(Properties::of_text("driver", line));
    }
});
