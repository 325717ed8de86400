//! Faults that must be found, each one wrong line: of the renderer, the commit, the tree and the view by the random
//! maps of `visibility.rs`, those that only a view kept over changes can have by `incremental.rs` too, of the access
//! rules by the random accesses of `bytes.rs`.

/// One wrong line.
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// Under `crates/flatview/src`.
    pub file: &'static str,
    /// Occurs exactly once in the file.
    pub from: &'static str,
    pub to: &'static str,
    /// The tests that must find it, each for itself.
    pub tests: &'static [&'static str],
}

const fn fault(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["visibility"] }
}

/// Of what is kept over changes.
const fn kept(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["visibility", "incremental"] }
}

const fn access(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["bytes"] }
}

const fn known(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["known"] }
}

const fn traced(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["trace"] }
}

const fn tree(name: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file: "view/build.rs", from, to, tests: &["lib"] }
}

pub const FAULTS: &[Fault] = &[
    // Rendering.
    fault(
        "disabled regions are shown",
        "render.rs",
        "if !attrs.enabled() || attrs.size() == 0 {",
        "if attrs.size() == 0 {",
    ),
    fault(
        "what reaches out of its container is not clipped",
        "render.rs",
        "own.and_then(|own| own.intersection(visit.clip))",
        "own.filter(|own| own.intersection(visit.clip).is_some())",
    ),
    fault(
        "regions are a byte too long",
        "render.rs",
        "base + attrs.size() as i128 - 1)",
        "base + attrs.size() as i128)",
    ),
    fault(
        "read-only is not passed down",
        "render.rs",
        "readonly: visit.readonly | attrs.readonly(),",
        "readonly: attrs.readonly(),",
    ),
    fault(
        "a leaf's own non-volatile mark is lost",
        "render.rs",
        "nonvolatile: visit.nonvolatile | attrs.nonvolatile(),",
        "nonvolatile: visit.nonvolatile,",
    ),
    fault(
        "the place where an alias's target stands counts",
        "render.rs",
        "map_or(0, |t| t.attrs.addr);",
        "map_or(0, |_| 0);",
    ),
    fault(
        "an alias shows its target from the start",
        "render.rs",
        "- i128::from(stands_at) - i128::from(attrs.alias_offset)",
        "- i128::from(stands_at)",
    ),
    fault(
        "a region that answers hides what is mapped in it",
        "render.rs",
        "work.push(Step::Place(here));\n        }",
        "work.push(Step::Place(here));\n            continue;\n        }",
    ),
    fault(
        "a piece that ends on a region's first byte does not hide it",
        "render.rs",
        "filter(|(_, last)| last.saturating_add(1) >= clip.start)",
        "filter(|(_, last)| **last > clip.start)",
    ),
    fault(
        "gaps of one byte are not filled",
        "render.rs",
        "at.filter(|from| from < start)",
        "at.filter(|from| *from + 1 < *start)",
    ),
    fault(
        "the last byte after others is not filled",
        "render.rs",
        "at.filter(|from| *from <= clip.last)",
        "at.filter(|from| *from < clip.last)",
    ),
    fault(
        "what is seen behind another begins at offset 0 again",
        "render.rs",
        "i128::from(span.start) - visit.base",
        "i128::from(clip.start) - visit.base",
    ),
    fault(
        "what is hidden in part is taken for hidden",
        "render.rs",
        "is_some_and(|(_, last)| *last >= span.last)",
        "is_some_and(|(_, last)| *last >= span.start)",
    ),
    fault(
        "what a piece joins is taken for free",
        "render.rs",
        "self.taken.insert(joined.start, joined.last);",
        "self.taken.insert(clip.start, clip.last);",
    ),
    fault(
        "what reaches past a region that joins it is taken for free",
        "render.rs",
        "joined.last = joined.last.max(*last);",
        "",
    ),
    // Merging and cutting.
    fault(
        "pieces are joined whether read-only or not",
        "view/range.rs",
        "            && self.readonly == next.readonly\n",
        "",
    ),
    fault(
        "ranges are joined whatever their offsets",
        "view/range.rs",
        "u128::from(self.offset) + self.span().size() == u128::from(next.offset)",
        "self.offset <= next.offset",
    ),
    fault(
        "ranges are joined whether non-volatile or not",
        "view/range.rs",
        "&& self.flags == next.flags",
        "&& self.flags.bits & !Flags::NONVOLATILE == next.flags.bits & !Flags::NONVOLATILE",
    ),
    fault(
        "a range of other attributes is the same",
        "view/range.rs",
        "(self.span(), self.offset, self.flags) == (other.span(), other.offset, other.flags)",
        "(self.span(), self.offset) == (other.span(), other.offset)",
    ),
    fault(
        "the rest of a cut range begins at the old offset",
        "view/range.rs",
        "self.offset + (at.span().start - self.start())",
        "self.offset",
    ),
    // Effective roots.
    fault(
        "a root alias with an offset is skipped",
        "commit.rs",
        "attrs.alias_offset == 0 && fits(attrs.target)",
        "fits(attrs.target)",
    ),
    fault(
        "a root that cuts its target is skipped",
        "commit.rs",
        "attrs.size() >= o.attrs.size() && attrs.addr == o.attrs.addr",
        "attrs.addr == o.attrs.addr",
    ),
    fault(
        "a root at another address is skipped",
        "commit.rs",
        "attrs.size() >= o.attrs.size() && attrs.addr == o.attrs.addr",
        "attrs.size() >= o.attrs.size()",
    ),
    fault(
        "a read-only root is skipped",
        "commit.rs",
        "|| attrs.readonly() || attrs.nonvolatile() {",
        "|| attrs.nonvolatile() {",
    ),
    kept(
        "a root's alias is not looked at again when its target changes",
        "topology/tree.rs",
        "self.rechecks.push((index, reshaped));",
        "self.rechecks.push((index, reshaped && false));",
    ),
    kept(
        "a root is not looked at again when its children change",
        "topology/tree.rs",
        "self.rechecks.push((container, false));",
        "let _ = container;",
    ),
    kept(
        "where the way to a root went before is not brought up to date",
        "memory/state.rs",
        "waypoint.next = next;",
        "let _ = waypoint.next;",
    ),
    fault(
        "a view that one space leaves is gone before another enters it",
        "memory/state.rs",
        "left.extend(self.look_elsewhere(space, walk, domain));",
        "if let Some(view) = self.look_elsewhere(space, walk, domain) { self.leave_view(view, domain); left.clear(); }",
    ),
    fault(
        "a view is dropped while a second space looks at it",
        "memory/state.rs",
        "if view.spaces == 0\n",
        "if view.spaces <= 1\n",
    ),
    // What a change touches.
    kept(
        "the place that a region leaves is not touched",
        "topology/tree.rs",
        "self.touch_child(old.container, &old);",
        "",
    ),
    Fault {
        name: "what is hidden in the middle of a transaction was so before",
        file: "topology/tree.rs",
        from: "fn was_hidden_before(&self) -> bool {\n        self.touched.is_empty()",
        to: "fn was_hidden_before(&self) -> bool {\n        true",
        tests: &["incremental"],
    },
    kept("a root that moves takes nothing along", "topology/tree.rs", "self.moved.push(index);", ""),
    kept(
        "what a region loses before it moves is not touched",
        "topology/tree.rs",
        "if was != is\n",
        "if was < is\n",
    ),
    kept(
        "a new size touches what stays",
        "topology/tree.rs",
        "let from = if only_size { small } else { 0 };",
        "let from = if only_size { large } else { 0 };",
    ),
    kept(
        "a change is seen through the first alias only",
        "commit.rs",
        "for alias in record.live_aliases() {",
        "for alias in record.live_aliases().iter().take(1) {",
    ),
    kept(
        "a change is looked for on the wrong side of an alias's offset",
        "commit.rs",
        "up(*alias, -i128::from(alias_attrs.alias_offset));",
        "up(*alias, i128::from(alias_attrs.alias_offset));",
    ),
    kept(
        "a root's own address is forgotten when its content changes",
        "commit.rs",
        "span.moved_into(i128::from(root.attrs.addr), crate::WHOLE)",
        "span.moved_into(0, crate::WHOLE)",
    ),
    kept(
        "a region that is touched too often is forgotten",
        "commit.rs",
        "            span = Span::ALL;\n",
        "            continue;\n",
    ),
    kept("windows that overlap lose their end", "span.rs", "last: span.last.max(s.last)", "last: span.last"),
    kept(
        "a region that two show is dead when one goes",
        "topology/live.rs",
        "record.shown_by = record.shown_by.saturating_add_signed(if more { 1 } else { -1 });",
        "record.shown_by = if more { record.shown_by + 1 } else { 0 };",
    ),
    kept(
        "what is mapped in something that comes to life stays dead",
        "topology/live.rs",
        "                        work.push(index);\n",
        "                        work.clear();\n",
    ),
    kept(
        "an alias that takes another's place in a list does not know it",
        "topology/live.rs",
        "        if let Some(moved) = moved {\n            self.note_place(moved, place);\n        }\n",
        "        let _ = moved;\n",
    ),
    kept(
        "an alias that comes to life does not say whose place it takes",
        "topology/live.rs",
        "        self.note_place(other, from);\n",
        "        let _ = other;\n",
    ),
    // Splicing.
    kept(
        "the range before a window is not joined",
        "commit.rs",
        "let from = window.start.saturating_sub(1);",
        "let from = window.start;",
    ),
    kept(
        "the range after a window is not joined",
        "commit.rs",
        "let to = window.last.saturating_add(1);",
        "let to = window.last;",
    ),
    kept(
        "the rest of a range after a window is put beside the old one",
        "view/tree.rs",
        ".fold(span.last, u64::max)",
        ".fold(span.last, |last, _| last)",
    ),
    tree(
        "a range that ends where a window begins goes with it",
        "take_while(|r| r.last() < t.start)",
        "take_while(|r| r.last() + 1 < t.start)",
    ),
    tree(
        "what reaches into a slot from before it is not seen there",
        "partition_point(|r| r.last() < window.first)",
        "partition_point(|r| r.start() < window.first)",
    ),
    tree(
        "what stands behind a node's window is lost",
        "r.start() < window.first || r.last() > window.last()",
        "r.start() < window.first",
    ),
    tree(
        "neighbouring slots share a leaf whatever covers them",
        "&& *known == key",
        "&& (*known == key || key.is_some())",
    ),
    tree(
        "a widened node forgets what begins before it",
        "let mut frame: Vec<FlatRange> = borrowed_by(&node, s).cloned().collect();",
        "let mut frame: Vec<FlatRange> = Vec::new();",
    ),
    // Order and indexes.
    fault(
        "of equals the one mapped first wins",
        "topology/tree.rs",
        "new.sort_by_cached_key(|i| self.get(*i).map(|r| (r.attrs.priority, r.attrs.sequence)));",
        "new.sort_by_cached_key(|i| self.get(*i).map(|r| (r.attrs.priority, u64::MAX - r.attrs.sequence)));",
    ),
    fault(
        "a region that moves keeps its rank",
        "memory/transaction.rs",
        "if addr == old.addr || old.container == NONE {",
        "if addr == old.addr || old.container != NONE {",
    ),
    fault(
        "a child twice as large as it starts before a window is overlooked",
        "topology/children.rs",
        "u64::MAX.checked_shr(u64::BITS - u32::from(class))",
        "(u64::MAX >> 1).checked_shr(u64::BITS - u32::from(class))",
    ),
    fault(
        "a child that ends on a window's first byte is overlooked",
        "topology/children.rs",
        "is_some_and(|last| last >= window.start)",
        "is_some_and(|last| last > window.start)",
    ),
    fault(
        "a size class is closed with children in it",
        "topology/children.rs",
        "neighbours.all(|k| class_of(*k) != class)",
        "neighbours.any(|k| class_of(*k) != class)",
    ),
    fault(
        "a key before all others is not found again",
        "topology/sorted.rs",
        "        if place == 0 {\n            self.note_first(at);\n        }\n    }\n",
        "    }\n",
    ),
    fault(
        "the keys after the chunk that a search begins in are forgotten",
        "topology/sorted.rs",
        "let chunks = self.chunks.get(at..).into_iter().flatten();",
        "let chunks = self.chunks.get(at..).into_iter().flatten().take(1);",
    ),
    fault(
        "a key that is shown again does not count",
        "topology/sorted.rs",
        "*shown + u8::from(is_shown(to)) - u8::from(is_shown(from))",
        "(*shown).saturating_sub(u8::from(is_shown(from)))",
    ),
    // Undoing.
    fault(
        "undoing a change leaves the indexes",
        "topology/tree.rs",
        "                    self.put(index, old);\n",
        "                    if let Some(record) = self.arena.get_mut(index) {\n                        record.attrs = old;\n                    }\n",
    ),
    fault(
        "undoing a removal forgets that it was an alias",
        "topology/tree.rs",
        "                    self.link_alias(target, index);\n",
        "                    let _ = target;\n",
    ),
    fault(
        "undoing an addition leaves its target an alias",
        "topology/tree.rs",
        "                    self.unlink_target(index);\n                    dropped",
        "                    dropped",
    ),
    fault(
        "an update that cannot be rendered stays in the tree",
        "memory/handle.rs",
        "garbage.bodies = state.rollback(savepoint);",
        "garbage.bodies = state.topology.accept();",
    ),
    fault("an inner update publishes", "memory/handle.rs", "if state.depth == 0 {", "if state.depth <= 1 {"),
    // Publishing.
    fault(
        "readers are not told of a changed view",
        "memory/state.rs",
        "domain.publish(&state.slot, view, windows.iter());",
        "drop(view);",
    ),
    // What a reader keeps of the ranges it hit.
    known(
        "a change is told without its place",
        "memory/state.rs",
        "view, windows.iter());",
        "view, windows.iter().skip(1));",
    ),
    known(
        "of three places that a change touches the first is forgotten",
        "publish/told.rs",
        "known.iter().flatten().fold(span,",
        "known.iter().flatten().skip(1).fold(span,",
    ),
    known(
        "a change before there were notes is taken for none",
        "publish/domain.rs",
        "        from >= since\n            && ",
        "        ",
    ),
    known(
        "the last change is not looked at",
        "publish/domain.rs",
        "told.read(to, &mut f) || self.begun.load(Ordering::Acquire) == to",
        "true",
    ),
    known(
        "lanes are not told that what they look at was replaced",
        "publish/domain.rs",
        "self.readers.lock().iter().for_each(|hazards| hazards.announce(value));",
        "",
    ),
    known(
        "offsets of registers are from the beginning of what they are kept of",
        "access/registers.rs",
        "range.offset().wrapping_sub(start & mask);",
        "range.offset();",
    ),
    known(
        "registers of other offsets are taken for the same kind",
        "access/registers.rs",
        "(self.mask, self.part, self.order, self.sizes)\n                == (kind.mask, kind.part, kind.order, kind.sizes)",
        "(self.mask, self.order, self.sizes) == (kind.mask, kind.order, kind.sizes)",
    ),
    known(
        "registers of the other order are taken for the same kind",
        "access/registers.rs",
        "(self.mask, self.part, self.order, self.sizes)\n                == (kind.mask, kind.part, kind.order, kind.sizes)",
        "(self.mask, self.part, self.sizes) == (kind.mask, kind.part, kind.sizes)",
    ),
    known(
        "a size that is not one callback as it is becomes one",
        "access/registers.rs",
        "sizes & 1 << log != 0",
        "sizes != 0 && log < 4",
    ),
    known(
        "what known registers give is not swapped",
        "access/direct.rs",
        "Some(if SWAPPED { swapped(value, size) } else { value })",
        "Some(value)",
    ),
    known(
        "what is given to known registers is not swapped",
        "access/direct.rs",
        "if SWAPPED { swapped(value, size) } else { value }) {",
        "value) {",
    ),
    known(
        "a narrow change empties all pages but its last",
        "access/table.rs",
        "..=span.last >> PAGE {\n            let addr",
        "..span.last >> PAGE {\n            let addr",
    ),
    known(
        "a change empties no devices",
        "access/table.rs",
        "self.registers.empty(registers, count, Some(page));",
        "let _ = registers;",
    ),
    known(
        "a change leaves the last registers of a page",
        "access/table.rs",
        "self.registers.empty(registers, count, Some(page));",
        "self.registers.empty(registers, count - 2, Some(page));",
    ),
    known(
        "a change empties no memory",
        "access/table.rs",
        "/ size_of::<Page>(), 1, Some(page));",
        "/ size_of::<Page>(), 0, Some(page));",
    ),
    known("a wide change empties no devices", "access/table.rs", "self.registers.empty_all();", ""),
    known("a wide change empties no memory", "access/table.rs", "self.pages.empty_all();", ""),
    known(
        "a device that begins inside of 32 bytes is kept for all of them",
        "access/table.rs",
        "let all = range.start() <= granule && ",
        "let all = ",
    ),
    known(
        "a device that ends inside of 32 bytes is kept for all of them",
        "access/table.rs",
        " && granule | ((1 << GRANULE) - 1) <= range.last();",
        ";",
    ),
    known(
        "a page is kept for all of its memory, wherever that is",
        "access/table.rs",
        "r.load_place() == Some(place);",
        "r.is_ram_backed();",
    ),
    known(
        "a page whose first range is memory is kept for all of it",
        "access/table.rs",
        "} else if to.last() < last {",
        "} else if to.last() < page {",
    ),
    // Accesses.
    access(
        "a read-only alias lets stores through",
        "view/range.rs",
        "is_ram && writable && !piece.readonly",
        "is_ram && writable",
    ),
    access(
        "a ROM device answers from memory with its ROM mode off",
        "view/range.rs",
        "(backed && (is_ram || romd),",
        "(backed,",
    ),
    access(
        "a window of a block begins at the block's start",
        "view/range.rs",
        "base.checked_add(offset).and_then(",
        "base.checked_add(offset).map(|at| at.min(offset)).and_then(",
    ),
    access(
        "where nothing is, accesses are cut into eights",
        "access/port.rs",
        "None => (addr, 4, false),",
        "None => (addr, 8, false),",
    ),
    access(
        "the first byte of a device is accessed alone",
        "access/port.rs",
        "if unaligned || offset == 0 {",
        "if unaligned {",
    ),
    access(
        "a read-only device takes writes",
        "access/port.rs",
        "if range.readonly() {\n            return Err(access.failed",
        "if range.readonly() && range.nonvolatile() {\n            return Err(access.failed",
    ),
    access(
        "the halves of a misaligned load are swapped",
        "access/port.rs",
        "(first >> by) | (second << rest)",
        "(second >> by) | (first << rest)",
    ),
    access(
        "a store that reaches past ROM is dropped",
        "access/port.rs",
        "range.drops_stores() && range.room(addr) >= u64::from(V::SIZE)",
        "range.drops_stores()",
    ),
    access(
        "big-endian pieces are put together from the wrong end",
        "access/dispatch.rs",
        "self.size() as i32 - call_size as i32 - at as i32",
        "at as i32",
    ),
    access(
        "garbage above a callback's size is kept",
        "access/dispatch.rs",
        "shifted(got & wide.unwrap_or(low_mask(call.size())), shift)",
        "shifted(got, shift)",
    ),
    access(
        "a narrow write clears the rest of the word",
        "access/dispatch.rs",
        "(part & kept) | (old & low_mask(call.size()) & !kept)",
        "part & kept",
    ),
    traced(
        "a range that is traced takes the short way",
        "view/range.rs",
        "&& !traced",
        "&& (traced || !traced)",
    ),
    traced(
        "turning the trace on changes no view",
        "topology/trace.rs",
        "self.touched.extend(all);",
        "let _ = all;",
    ),
    traced(
        "the pieces of a split write are not told",
        "access/dispatch.rs",
        "result = join(result, call.write_call(ops, part));",
        "result = join(result, ops.write(call, part));",
    ),
    traced(
        "nested accesses are told as those of CPUs",
        "access/trace.rs",
        "nesting() == 1",
        "nesting() >= 1",
    ),
    access("the largest size is refused", "access/dispatch.rs", "self.size() > max)", "self.size() >= max)"),
    access(
        "a split access tells of its first error only",
        "memtx.rs",
        "(Err(a), Err(b)) => Err(a.and(b)),",
        "(Err(a), Err(_)) => Err(a),",
    ),
    access(
        "the bus accesses a device that says nothing in eights",
        "mmio.rs",
        "if self.valid_max == 0 { 4 }",
        "if self.valid_max == 0 { 8 }",
    ),
];
