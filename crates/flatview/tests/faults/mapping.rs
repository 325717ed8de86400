//! Faults of mappings, caches, copies, atomic accesses and questions, found by their random use.

use super::list::Fault;

const fn held(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["mapping_random"] }
}

pub const FAULTS: &[Fault] = &[
    held(
        "a mapping goes on where it may not be written",
        "mapping/direct.rs",
        "== Some(range.offset())\n                    && is_direct(range, direction)",
        "== Some(range.offset())",
    ),
    held(
        "a mapping goes on at another offset",
        "mapping/direct.rs",
        "offset.checked_add(found) == Some(range.offset())",
        "range.offset() < u64::MAX",
    ),
    held(
        "a mapping goes on in another region",
        "mapping/direct.rs",
        "Arc::ptr_eq(range.body(), first.body())",
        "range.is_ram()",
    ),
    held(
        "a mapping marks a byte too few",
        "mapping/guard.rs",
        "self.ram.mark(0, accessed.min(self.len()));",
        "self.ram.mark(0, accessed.min(self.len()).saturating_sub(1));",
    ),
    held(
        "what a guard writes is not marked",
        "mapping/guard.rs",
        "ok_or_else(outside)?;\n        self.ram.mark(offset, size);",
        "ok_or_else(outside)?;",
    ),
    held(
        "a bounce buffer is written back whole",
        "mapping/guard.rs",
        "let accessed = accessed.min(self.len());",
        "let accessed = self.len().max(accessed.min(1));",
    ),
    held(
        "bytes of bounce buffers do not return",
        "mapping/bounce.rs",
        "account.used.saturating_sub(bytes);",
        "account.used.saturating_sub(bytes / 2);",
    ),
    held(
        "a cache lets a byte past its end",
        "mapping/cache.rs",
        "self.len - offset < size",
        "self.len - offset + 1 < size",
    ),
    held(
        "an old view marks for its own clients only",
        "mapping/cache.rs",
        "range.mark_for_all(part.start,",
        "range.mark(part.start,",
    ),
    held(
        "what is copied is not marked",
        "mapping/copy.rs",
        "wrote(to_view, target, dest, n);",
        "let _ = wrote;",
    ),
    held(
        "a filled hole is a byte shorter",
        "mapping/copy.rs",
        "done += nothing - nothing % FILL;",
        "done += nothing - nothing % FILL + 1;",
    ),
    held(
        "what changes in one step is not marked",
        "mapping/atomic.rs",
        "if wrote_it {",
        "if wrote_it && range.nonvolatile() {",
    ),
    held(
        "sums carry in the host's order",
        "mapping/atomic.rs",
        "if from_memory::<O, u16>(1) == 1 {",
        "if from_memory::<O, u16>(1) != 0 {",
    ),
    held(
        "what one device takes all behind it take",
        "mapping/ask.rs",
        "(inside - inside % piece).max(piece)",
        "(inside - inside % piece).max(left as u64)",
    ),
    held(
        "a read-only view of a device seems to take writes",
        "access/dispatch.rs",
        ".filter(|_| !(self.write && self.range().readonly()))",
        "",
    ),
];
