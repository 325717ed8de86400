use std::thread;
use std::time::Duration;

use flatview_board::{Cause, Request};

use super::*;
use crate::testing::mips;

/// A session, greeted and negotiated unless `raw`.
fn session() -> QmpSession {
    let (waker, _) = Waker::unattached();
    let mut session = QmpSession::new(mips(), waker).unwrap();
    let mut out = Vec::new();
    session.opened(&mut out).unwrap();
    session
}

fn say(session: &mut QmpSession, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    session.received(text.as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn negotiated() -> QmpSession {
    let mut session = session();
    assert_eq!(say(&mut session, "{\"execute\": \"qmp_capabilities\"}"), ["{\"return\": {}}"]);
    session
}

/// An event without its time stamp.
fn untimed(line: &str) -> String {
    let (stamp, rest) = line.split_once("}, ").unwrap();
    assert!(stamp.starts_with("{\"timestamp\": {\"seconds\": "), "{line}");
    rest.to_owned()
}

#[test]
fn the_greeting_names_the_version_and_no_capability() {
    let (waker, _) = Waker::unattached();
    let mut session = QmpSession::new(mips(), waker).unwrap();
    let mut out = Vec::new();
    session.opened(&mut out).unwrap();
    let greeting: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(greeting["QMP"]["capabilities"], json!([]));
    assert!(greeting["QMP"]["version"]["qemu"]["major"].is_u64());
}

#[test]
fn nothing_is_done_before_the_negotiation_and_it_happens_once() {
    let mut session = session();
    let refused = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities negotiation with 'qmp_capabilities'\"}}";
    assert_eq!(say(&mut session, "{\"execute\": \"query-status\"}"), [refused]);
    let oob =
        say(&mut session, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
    assert!(oob[0].contains("GenericError"), "{oob:?}");
    assert_eq!(
        say(&mut session, "{\"execute\": \"qmp_capabilities\", \"id\": 1}"),
        ["{\"return\": {}, \"id\": 1}"]
    );
    let again = say(&mut session, "{\"execute\": \"qmp_capabilities\"}");
    assert!(again[0].contains("Capabilities negotiation is already complete"), "{again:?}");
}

#[test]
fn several_commands_in_one_packet_are_answered_in_order_with_their_ids() {
    let mut session = negotiated();
    assert_eq!(
        say(
            &mut session,
            "{\"execute\":\"query-status\",\"id\":{\"b\":[1,2],\"a\":0}}{'execute':'foo','id':'x'}\n{\"execute\":\"stop\"}"
        ),
        [
            "{\"return\": {\"status\": \"prelaunch\", \"singlestep\": false, \"running\": false}, \"id\": {\"b\": [1, 2], \"a\": 0}}",
            "{\"id\": \"x\", \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command foo has not been found\"}}",
            "{\"return\": {}}",
        ]
    );
}

#[test]
fn bad_input_gets_the_errors_of_qemu_and_the_session_goes_on() {
    let mut session = negotiated();
    for (input, desc) in [
        ("{\"foo\":1}", "QMP input member 'foo' is unexpected"),
        ("[1,2]", "QMP input must be a JSON object"),
        ("\"x\"", "QMP input must be a JSON object"),
        ("{\"execute\":1}", "QMP input member 'execute' must be a string"),
        ("{}", "QMP input lacks member 'execute'"),
        ("{\"execute\":\"query-status\",\"arguments\":1}", "QMP input member 'arguments' must be an object"),
        ("{\"execute\":\"query-status\",\"arguments\":{\"a\":1}}", "Parameter 'a' is unexpected"),
        ("{\"execute\":\"query-status\",\"bar\":1}", "QMP input member 'bar' is unexpected"),
        ("{\"execute\":\"human-monitor-command\"}", "Parameter 'command-line' is missing"),
        (
            "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"help\",\"cpu-index\":5}}",
            "Parameter 'cpu-index' expects a CPU number",
        ),
        (
            "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":0,\"size\":4,\"filename\":\"/nonexist/z\"}}",
            "Could not open '/nonexist/z': No such file or directory",
        ),
        (
            "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":0,\"size\":-4,\"filename\":\"/nonexist/z\"}}",
            "Parameter 'size' expects a size of at least 0",
        ),
    ] {
        let answer = say(&mut session, input);
        let expected = format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{desc}\"}}}}");
        assert_eq!(answer, [expected], "{input}");
    }
    for malformed in ["}\n", "{\"execute\" \"query-status\"}", "{bad}", "{\"a\": [}\n"] {
        let answer = say(&mut session, malformed);
        assert!(
            answer.iter().all(|line| line.contains("JSON parse error, ")) && !answer.is_empty(),
            "{malformed}: {answer:?}"
        );
    }
    assert!(say(&mut session, "{\"execute\":\"query-status\"}")[0].contains("prelaunch"));
}

#[test]
fn a_commands_events_come_before_its_reply() {
    let mut session = negotiated();
    let lines = say(
        &mut session,
        "{\"execute\":\"cont\"}{\"execute\":\"stop\"}{\"execute\":\"stop\"}{\"execute\":\"system_reset\"}{\"execute\":\"system_powerdown\"}",
    );
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert_eq!(untimed(&lines[0]), "\"event\": \"RESUME\"}");
    assert_eq!(untimed(&lines[2]), "\"event\": \"STOP\"}");
    assert_eq!(
        untimed(&lines[5]),
        "\"event\": \"RESET\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}}"
    );
    assert_eq!(untimed(&lines[7]), "\"event\": \"POWERDOWN\"}");
    for reply in [1, 3, 4, 6, 8] {
        assert_eq!(lines[reply], "{\"return\": {}}");
    }
}

#[test]
fn an_event_that_nobody_asked_for_wakes_the_session() {
    let (waker, woken) = Waker::unattached();
    let machine = mips();
    let mut session = QmpSession::new(machine.clone(), waker).unwrap();
    session.opened(&mut Vec::new()).unwrap();
    say(&mut session, "{\"execute\": \"qmp_capabilities\"}");
    machine.perform(Request::SystemReset(Cause::GuestReset)).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !woken() && std::time::Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let mut out = Vec::new();
    session.woken(&mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    assert_eq!(
        untimed(line.trim_end()),
        "\"event\": \"RESET\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}"
    );
}

#[test]
fn quit_says_shutdown_first_and_nothing_is_done_after_it() {
    let mut session = negotiated();
    let lines = say(&mut session, "{\"execute\":\"quit\",\"id\":\"q\"}{\"execute\":\"query-status\"}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        untimed(&lines[0]),
        "\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}"
    );
    assert_eq!(lines[1], "{\"return\": {}, \"id\": \"q\"}");
}

#[test]
fn a_dump_is_told_of_before_its_reply_and_can_be_asked_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let mut session = negotiated();
    assert_eq!(
        say(&mut session, "{\"execute\":\"query-dump\"}"),
        ["{\"return\": {\"total\": 0, \"status\": \"none\", \"completed\": 0}}"]
    );
    assert_eq!(
        say(&mut session, "{\"execute\":\"query-dump-guest-memory-capability\"}"),
        ["{\"return\": {\"formats\": [\"elf\"]}}"]
    );
    let arguments = |protocol: &str, more: Value| {
        let mut arguments = json!({"paging": false, "protocol": protocol});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"execute": "dump-guest-memory", "arguments": arguments}).to_string()
    };
    let to = format!("file:{}", file.display());
    let part = json!({"begin": 0x1000, "length": 4096});
    let lines = say(&mut session, &arguments(&to, part));
    let completed = "{\"total\": 4096, \"status\": \"completed\", \"completed\": 4096}";
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        untimed(&lines[0]),
        format!("\"event\": \"DUMP_COMPLETED\", \"data\": {{\"result\": {completed}}}}}")
    );
    assert_eq!(lines[1], "{\"return\": {}}");
    assert_eq!(say(&mut session, "{\"execute\":\"query-dump\"}"), [format!("{{\"return\": {completed}}}")]);

    let lines = say(&mut session, &arguments("file:/dev/full", json!({})));
    let event: Value = serde_json::from_str(&lines[0]).unwrap();
    let reply: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(event["data"]["result"]["status"], "failed");
    assert_eq!(event["data"]["error"], reply["error"]["desc"]);

    for (protocol, more, desc) in [
        ("bad", json!({}), "Invalid parameter 'protocol'"),
        (
            "fd:a",
            json!({}),
            "File descriptor named 'a' has not been found; there is no 'getfd' here, use file:PATH",
        ),
        (to.as_str(), json!({"begin": 0}), "Parameter 'length' is missing"),
        (to.as_str(), json!({"length": 0}), "Parameter 'begin' is missing"),
        (to.as_str(), json!({"begin": 0, "length": -1}), "Invalid parameter 'length'"),
        (to.as_str(), json!({"begin": -1, "length": 1}), "Invalid parameter 'begin'"),
        (
            to.as_str(),
            json!({"begin": u64::MAX, "length": 1}),
            "Invalid parameter type for 'begin', expected: integer",
        ),
        (to.as_str(), json!({"format": "foo"}), "Parameter 'format' does not accept value 'foo'"),
        (to.as_str(), json!({"format": "kdump-lzo"}), "kdump-lzo is not available now; the formats are: elf"),
        (to.as_str(), json!({"format": 1}), "Invalid parameter type for 'format', expected: string"),
        (to.as_str(), json!({"detach": 1}), "Invalid parameter type for 'detach', expected: boolean"),
        (to.as_str(), json!({"paging": 0}), "Invalid parameter type for 'paging', expected: boolean"),
    ] {
        let reply = say(&mut session, &arguments(protocol, more));
        let expected = format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{desc}\"}}}}");
        assert_eq!(reply, [expected]);
    }
}

#[test]
fn the_dirty_rate_is_asked_for_and_refused_as_in_qemu() {
    let mut session = negotiated();
    let mut ask = |execute: &str, arguments: Value| {
        let reply = say(&mut session, &json!({"execute": execute, "arguments": arguments}).to_string());
        serde_json::from_str::<Value>(&reply[0]).unwrap()
    };
    assert_eq!(
        ask("query-dirty-rate", json!({}))["return"],
        json!({"status": "unstarted", "sample-pages": 0, "mode": "page-sampling", "start-time": 0, "calc-time": 0})
    );
    for (arguments, desc) in [
        (json!({}), "Parameter 'calc-time' is missing"),
        (json!({"calc-time": "1"}), "Invalid parameter type for 'calc-time', expected: integer"),
        (json!({"calc-time": 0}), "calc-time is out of range[1, 60]."),
        (json!({"calc-time": 1, "mode": "foo"}), "Parameter 'mode' does not accept value 'foo'"),
        (json!({"calc-time": 1, "sample-pages": 127}), "sample-pages is out of range[128, 16384]."),
        (
            json!({"calc-time": 1, "sample-pages": 512, "mode": "dirty-ring"}),
            "either sample-pages or dirty-ring can be specified.",
        ),
        (
            json!({"calc-time": 1, "mode": "dirty-ring"}),
            "mode dirty-ring is not enabled, use other method instead.",
        ),
    ] {
        assert_eq!(ask("calc-dirty-rate", arguments.clone())["error"]["desc"], desc, "{arguments}");
    }
    assert_eq!(ask("calc-dirty-rate", json!({"calc-time": 1, "sample-pages": 4097}))["return"], json!({}));
    let measuring = ask("query-dirty-rate", json!({}))["return"].clone();
    assert_eq!((&measuring["status"], &measuring["sample-pages"]), (&json!("measuring"), &json!(4097)));
    assert!(measuring.get("dirty-rate").is_none() && measuring["start-time"].as_u64() > Some(0));
    let busy = ask("calc-dirty-rate", json!({"calc-time": 0}));
    assert_eq!(busy["error"]["desc"], "the dirty rate is already being measured.");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while ask("query-dirty-rate", json!({}))["return"]["status"] == "measuring" {
        assert!(std::time::Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    // Nothing runs that could write.
    assert_eq!(ask("query-dirty-rate", json!({}))["return"]["dirty-rate"], 0);

    assert_eq!(ask("query-vcpu-dirty-limit", json!({}))["return"], json!([]));
    assert_eq!(ask("cancel-vcpu-dirty-limit", json!({"cpu-index": 0}))["return"], json!({}));
    for rate in [json!("a"), json!(-1)] {
        let bad = ask("set-vcpu-dirty-limit", json!({"dirty-rate": rate}));
        assert_eq!(bad["error"]["desc"], "Parameter 'dirty-rate' expects uint64");
    }
    let limit = ask("set-vcpu-dirty-limit", json!({"dirty-rate": 10}));
    assert!(limit["error"]["desc"].as_str().unwrap().starts_with("dirty page limit feature requires KVM"));
    assert_eq!(ask("x-query-numa", json!({}))["return"]["human-readable-text"], "0 nodes\n");
}

#[test]
fn the_human_monitor_is_a_command() {
    let mut session = negotiated();
    let command = "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info status\"}}";
    assert_eq!(say(&mut session, command), ["{\"return\": \"VM status: paused (prelaunch)\\r\\n\"}"]);
}

#[test]
fn every_listed_command_can_be_called() {
    let mut session = negotiated();
    let listed: Value = serde_json::from_str(&say(&mut session, "{'execute':'query-commands'}")[0]).unwrap();
    for command in listed["return"].as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        if name == "quit" {
            continue;
        }
        let answer = say(&mut session, &json!({"execute": name}).to_string());
        assert!(!answer.iter().any(|line| line.contains("has not been found")), "{name}: {answer:?}");
    }
}

#[test]
fn no_input_makes_qmp_panic_or_fall_silent() {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "\\",
        ":",
        ",",
        " ",
        "\n",
        "1",
        "-",
        "null",
        "tru",
        "\"execute\"",
        "\"arguments\"",
        "\"id\"",
        "\"stop\"",
        "{\"execute\":\"query-status\"}",
        "\u{e9}",
        "\\u12",
    ];
    let mut session = negotiated();
    let mut state: u64 = 0x5eed;
    for _ in 0..5_000 {
        let mut text = String::new();
        for _ in 0..10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PIECES[(state >> 33) as usize % PIECES.len()]);
        }
        for line in say(&mut session, &text) {
            serde_json::from_str::<Value>(&line).unwrap();
        }
    }
    // Whatever is pending is dropped by 0xff and the next command is answered.
    session.received(b"\xff", &mut Vec::new()).unwrap();
    let answer = say(&mut session, "\n{\"execute\":\"query-status\"}");
    assert!(answer.last().unwrap().contains("\"status\": "), "{answer:?}");
}
