//! Faults of what listeners are told, and of how a change is taken back.

use super::list::Fault;

/// Found by the random maps.
const fn told(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["listeners_random"] }
}

/// Found by the tests of the order of calls.
const fn order(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["listeners"] }
}

pub const FAULTS: &[Fault] = &[
    // The difference.
    told(
        "what joined with its neighbour is not told",
        "listen/delta.rs",
        "(window.start.saturating_sub(1), window.last.saturating_add(1))",
        "(window.start, window.last)",
    ),
    told(
        "a range that lies in two windows is told twice",
        "listen/delta.rs",
        "if done < Some(range.start()) {",
        "if done <= Some(range.start()) {",
    ),
    told(
        "a change of attributes alone is not told",
        "listen/delta.rs",
        "place(a) == place(b) && attrs(a) == attrs(b)",
        "{ let _ = attrs(a) == attrs(b); place(a) == place(b) }",
    ),
    told(
        "a space that looks elsewhere tells nothing",
        "memory/state.rs",
        "(anew.or_else(known).unwrap_or(old), None)",
        "(anew.or_else(known).unwrap_or(old), Some(&nowhere))",
    ),
    told(
        "a log that gained a client is told only if it lost none",
        "listen/apply.rs",
        "if now & !old != 0 {",
        "if now & !old != 0 && old & !now == 0 {",
    ),
    // Ioeventfds and coalesced ranges.
    told(
        "an ioeventfd is seen only where it lies whole",
        "listen/flat.rs",
        "span.intersection(range.span())?;",
        "range.span().contains(span).then_some(())?;",
    ),
    told(
        "an ioeventfd goes while another range still shows it",
        "listen/delta.rs",
        "match (shows(old, &eventfd), shows(new, &eventfd)) {",
        "match (shows(old, &eventfd), shows(new, &eventfd) && diff.removed.is_empty()) {",
    ),
    told(
        "the same coalesced range twice goes at once",
        "listen/delta.rs",
        "            others.swap_remove(at);\n",
        "            let _ = at;\n",
    ),
    told(
        "lists that changed are not told where the range stays",
        "listen/delta.rs",
        "diff.relisted.push(range.start());",
        "let _ = range;",
    ),
    told(
        "lists that changed are not rendered",
        "memory/state.rs",
        "changes.touched.iter().copied().chain(relisted).collect();",
        "changes.touched.iter().copied().chain(relisted.take(0)).collect();",
    ),
    told(
        "lists are not put back",
        "topology/tree.rs",
        "dropped.push(std::mem::replace(&mut record.body, old));",
        "let _ = record; dropped.push(old);",
    ),
    // Taking back.
    told(
        "the tree keeps a change that was taken back",
        "memory/turn.rs",
        "let bodies = state.rollback(savepoint);\n            state",
        "let bodies = state.topology.accept();\n            state",
    ),
    told(
        "the old views are not shown again",
        "memory/turn.rs",
        "state.show_again(way_back, domain);",
        "drop(way_back);",
    ),
    told(
        "a view that was left is not there when its space comes back",
        "memory/state.rs",
        "prepared.fresh.insert(root, view);",
        "let _ = (root, view);",
    ),
    told(
        "who was told of the end is told the opposite without a beginning",
        "listen/apply.rs",
        "for at in who(|c| matches!(c, Call::Commit)) {",
        "for at in who(|_| false) {",
    ),
    told(
        "a call more than were made is taken back",
        "listen/apply.rs",
        "                if let Err(refusal) = run(entry, |l| call.make(l)) {\n                    let error = MemoryError::ListenerFailed {\n                        name: Arc::clone(&entry.name),\n                        callback: call.name(),\n                        address: call.place().map_or(0, |(_, addr)| addr),\n                        reason: refusal.error.shared(),\n                    };\n                    let failure",
        "                if let Err(refusal) = run(entry, |l| call.make(l)) {\n                    made.push((call_at, at));\n                    let error = MemoryError::ListenerFailed {\n                        name: Arc::clone(&entry.name),\n                        callback: call.name(),\n                        address: call.place().map_or(0, |(_, addr)| addr),\n                        reason: refusal.error.shared(),\n                    };\n                    let failure",
    ),
    // The order.
    order(
        "calls are taken back in the order in which they were made",
        "listen/apply.rs",
        "for (c, at) in made.iter().rev() {",
        "for (c, at) in made.iter() {",
    ),
    order(
        "what goes is told by ascending priority",
        "listen/apply.rs",
        "let at = if call.is_reverse() { count - 1 - i } else { i };",
        "let at = i;",
    ),
    order(
        "of equal priorities the one added last comes first",
        "listen/registry.rs",
        "e.priority <= entry.priority",
        "e.priority < entry.priority",
    ),
    order(
        "another thread's change does not wait for the listeners",
        "memory/turn.rs",
        "        let turn = self.0.turn.lock();\n        if turn.listening.get() { Err",
        "        let turn = self.0.turn.lock();\n        if false { Err",
    ),
    order(
        "those who agreed are not told that nothing comes of it",
        "listen/apply.rs",
        "entries.iter().take(at).rev()",
        "entries.iter().take(0).rev()",
    ),
];
