use super::*;
use crate::testing::mips;

fn session() -> QtestSession {
    let (waker, _) = Waker::unattached();
    QtestSession::new(mips(), waker, None)
}

#[test]
fn integers_are_in_the_targets_order_and_bytes_in_address_order() {
    let mut q = session();
    for (line, answer) in [
        ("endianness", "OK big"),
        ("writel 0x100 0x11223344", "OK"),
        ("read 0x100 4", "OK 0x11223344"),
        ("readw 0x100", "OK 0x0000000000001122"),
        ("readb 0x103", "OK 0x0000000000000044"),
        ("readq 0x100", "OK 0x1122334400000000"),
        ("write 0x200 3 0xAABBCC", "OK"),
        ("b64read 0x200 3", "OK qrvM"),
        ("b64write 0x210 4 AQIDBA==", "OK"),
        ("readl 0x210", "OK 0x0000000001020304"),
        ("memset 0x220 4 0xab", "OK"),
        ("readl 0x220", "OK 0x00000000abababab"),
        ("memset 0x220 0 0", "OK"),
        ("writel 0x100 -1", "OK"),
        ("readl 0x100", "OK 0x00000000ffffffff"),
    ] {
        assert_eq!(q.execute(line), answer, "{line}");
    }
}

#[test]
fn what_nobody_answers_reads_0_in_memory_and_ones_in_io() {
    let mut q = session();
    assert_eq!(q.execute("readq 0x90000000"), "OK 0x0000000000000000");
    assert_eq!(q.execute("writel 0x90000000 1"), "OK");
    assert_eq!(q.execute("inb 0x3e7"), "OK 0x00ff");
    assert_eq!(q.execute("inw 0x3e6"), "OK 0xffff");
    assert_eq!(q.execute("inl 0x3e4"), "OK 0xffffffff");
    assert_eq!(q.execute("outl 0x3e4 5"), "OK");
}

#[test]
fn a_line_that_stops_qemu_gets_fail_and_the_next_one_is_answered() {
    let mut q = session();
    let mut out = Vec::new();
    q.received(b"readb\nfoo\n\n\xff\xfe\nwrite 0 1 0xzz\nreadb 0\n", &mut out).unwrap();
    let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[..5].iter().all(|line| line.starts_with("FAIL ")), "{lines:?}");
    assert_eq!(lines[5], "OK 0x0000000000000000");
}

#[test]
fn a_line_without_end_is_not_kept_without_end() {
    let mut q = session();
    let mut out = Vec::new();
    for _ in 0..20 {
        q.received(&vec![b'x'; 1 << 20], &mut out).unwrap();
    }
    assert!(q.line.len() <= MAX_LINE);
    q.received(b"\nendianness\n", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("FAIL Line longer than") && text.ends_with("\nOK big\n"), "{text}");
}

#[test]
fn the_clock_goes_as_it_is_told() {
    let mut q = session();
    assert_eq!(q.execute("clock_step 100"), "OK 100");
    assert_eq!(q.execute("clock_set 1000"), "OK 1000");
    assert!(q.execute("clock_step").starts_with("OK "), "the next timer, or no time at all");
}

#[test]
fn lines_are_refused_by_name() {
    let mut q = session();
    for line in ["irq_intercept_in /machine/nothing", "set_irq_in /machine/nothing unnamed-gpio-in 0 1"] {
        let answer = q.execute(line);
        assert!(answer.starts_with("FAIL Unknown device '/machine/nothing'"), "{answer}");
    }
    assert!(q.execute("module_load a b").starts_with("FAIL "));
    assert!(q.execute("rtas x 0 0 0 0").starts_with("FAIL "));
}

#[test]
fn the_log_has_both_directions() {
    #[derive(Clone, Default)]
    struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Shared::default();
    let (waker, _) = Waker::unattached();
    let mut q = QtestSession::new(mips(), waker, Some(Box::new(log.clone())));
    q.received(b"endianness\n", &mut Vec::new()).unwrap();
    assert_eq!(*log.0.lock().unwrap(), b"[R] endianness\n[S] OK big\n");
}

#[test]
fn no_line_makes_qtest_panic_and_each_has_one_answer() {
    const WORDS: &[&str] = &[
        "readb",
        "readq",
        "writel",
        "read",
        "write",
        "b64read",
        "b64write",
        "memset",
        "inb",
        "outl",
        "set_irq_in",
        "clock_step",
        "clock_set",
        "irq_intercept_in",
        "/machine",
        "unnamed-gpio-in",
        "0",
        "1",
        "4",
        "-1",
        "0x",
        "0xffff",
        "0xffffffffffffffff",
        "0x0102",
        "AQIDBA==",
        "é",
        "07",
        "18446744073709551616",
    ];
    let mut q = session();
    let mut state: u64 = 0x5eed;
    for _ in 0..20_000 {
        let mut line = String::new();
        for _ in 0..5 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            line.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
            line.push(' ');
        }
        let answer = q.execute(&line);
        assert!(answer.starts_with("OK") || answer.starts_with("FAIL "), "{line}: {answer}");
    }
}
