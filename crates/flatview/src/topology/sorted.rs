//! An ordered set of numbers in few, well-filled pieces of memory.
//!
//! What it is: the keys in order, cut into chunks, with a list of where each begins, so that a search in 100,000 keys
//! looks at that list and at one chunk. Keys may be hidden: the [lowest bit](HIDDEN) of such a key is set. Chunks in
//! which all are hidden are passed over by what looks for the others. What it is not: balanced over levels; a set of many millions, filled in no
//! order, would move its list about.
//!
//! What must hold: no chunk is empty or holds more than [`MOST`]; the lists say of each chunk what its first key is and
//! how many of its keys are not hidden.

/// The bit of a hidden key.
pub(super) const HIDDEN: u128 = 1;

/// Keys of a chunk.
const MOST: usize = 64;
/// A chunk below this is joined with a neighbour if the two fit into one.
const FEW: usize = MOST / 4;

#[derive(Default)]
pub(super) struct Sorted {
    /// The first key of each chunk; apart from the chunks, so that a search stays in few cache lines.
    firsts: Vec<u128>,
    /// How many keys of each chunk are not hidden.
    shown: Vec<u8>,
    chunks: Vec<Vec<u128>>,
}

/// The keys before and after one that was taken out.
pub(super) type Neighbours = [Option<u128>; 2];

fn is_shown(key: u128) -> bool {
    key & HIDDEN == 0
}

fn count_shown(keys: &[u128]) -> u8 {
    keys.iter().map(|k| u8::from(is_shown(*k))).sum()
}

impl Sorted {
    /// The chunk where a key is, or would be.
    #[inline]
    fn chunk_of(&self, key: u128) -> usize {
        self.firsts.partition_point(|first| *first <= key).saturating_sub(1)
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Puts a key in that is not there yet.
    pub fn insert(&mut self, key: u128) {
        let at = self.chunk_of(key);
        let Some(chunk) = self.chunks.get(at) else {
            // Most sets are small.
            self.firsts = Vec::with_capacity(1);
            self.shown = Vec::with_capacity(1);
            self.chunks = Vec::with_capacity(1);
            return self.insert_chunk(0, vec![key]);
        };
        let place = chunk.partition_point(|k| *k < key);
        if chunk.len() < MOST {
            self.insert_at(at, place, key);
        } else if place == MOST && self.chunks.get(at + 1).is_some_and(|next| next.len() < MOST) {
            self.insert_at(at + 1, 0, key);
        } else if place == 0 || place == MOST {
            // Keys that come in order leave full chunks behind.
            let mut new = Vec::with_capacity(MOST);
            new.push(key);
            self.insert_chunk(if place == 0 { at } else { at + 1 }, new);
        } else {
            let split = |chunk: &mut Vec<u128>| {
                let upper = chunk.split_off(MOST / 2);
                chunk.shrink_to(MOST / 2 + FEW);
                upper
            };
            let upper = self.chunks.get_mut(at).map(split);
            self.count_again(at);
            self.insert_chunk(at + 1, upper.unwrap_or_default());
            match place.checked_sub(MOST / 2) {
                Some(place) if place > 0 => self.insert_at(at + 1, place, key),
                _ => self.insert_at(at, place, key),
            }
        }
    }

    /// Puts a key into a chunk that has room.
    fn insert_at(&mut self, at: usize, place: usize, key: u128) {
        if let Some(chunk) = self.chunks.get_mut(at) {
            if chunk.len() == chunk.capacity() && chunk.len() >= FEW {
                // Doubling would leave much unused.
                chunk.reserve_exact(FEW);
            }
            chunk.insert(place, key);
        }
        if let Some(shown) = self.shown.get_mut(at) {
            *shown += u8::from(is_shown(key));
        }
        if place == 0 {
            self.note_first(at);
        }
    }

    fn count_again(&mut self, at: usize) {
        if let Some((shown, chunk)) = self.shown.get_mut(at).zip(self.chunks.get(at)) {
            *shown = count_shown(chunk);
        }
    }

    /// Brings the list of first keys up to date.
    fn note_first(&mut self, at: usize) {
        let now = self.chunks.get(at).and_then(|c| c.first());
        if let Some((first, now)) = self.firsts.get_mut(at).zip(now) {
            *first = *now;
        }
    }

    fn insert_chunk(&mut self, at: usize, chunk: Vec<u128>) {
        if let Some(first) = chunk.first() {
            self.firsts.insert(at, *first);
            self.shown.insert(at, count_shown(&chunk));
            self.chunks.insert(at, chunk);
        }
    }

    /// Takes a key out and gives its neighbours; `None` if it is not there.
    pub fn remove(&mut self, key: u128) -> Option<Neighbours> {
        let at = self.chunk_of(key);
        let chunk = self.chunks.get_mut(at)?;
        let place = chunk.binary_search(&key).ok()?;
        chunk.remove(place);
        if let Some(shown) = self.shown.get_mut(at) {
            *shown -= u8::from(is_shown(key));
        }
        let len = chunk.len();
        let before = place.checked_sub(1).and_then(|p| chunk.get(p)).copied();
        let after = chunk.get(place).copied();
        let before = before.or_else(|| self.chunks.get(at.checked_sub(1)?)?.last().copied());
        let after = after.or_else(|| self.chunks.get(at + 1)?.first().copied());
        if place == 0 {
            self.note_first(at);
        }
        if len < FEW {
            self.join(at);
        }
        Some([before, after])
    }

    /// Writes `to` over the key `from`, which must be there; no other key may lie between the two.
    pub fn replace(&mut self, from: u128, to: u128) {
        let at = self.chunk_of(from);
        if let Some(chunk) = self.chunks.get_mut(at)
            && let Ok(place) = chunk.binary_search(&from)
            && let Some(key) = chunk.get_mut(place)
        {
            *key = to;
            if let Some(shown) = self.shown.get_mut(at) {
                *shown = *shown + u8::from(is_shown(to)) - u8::from(is_shown(from));
            }
            if place == 0 {
                self.note_first(at);
            }
        }
    }

    /// Joins a small chunk with a neighbour.
    fn join(&mut self, at: usize) {
        let len = |at: usize| self.chunks.get(at).map_or(MOST, Vec::len);
        let fits = |lower: &usize| len(*lower) + len(lower + 1) <= MOST;
        if len(at) == 0 {
            self.chunks.remove(at);
            self.firsts.remove(at);
            self.shown.remove(at);
        } else if let Some(lower) = [at.saturating_sub(1), at].into_iter().find(fits) {
            let upper = self.chunks.remove(lower + 1);
            self.firsts.remove(lower + 1);
            self.shown.remove(lower + 1);
            if let Some(chunk) = self.chunks.get_mut(lower) {
                chunk.extend(upper);
            }
            self.count_again(lower);
        }
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        self.chunks.iter().flatten().copied()
    }

    /// The keys from `from` to `to` that are not hidden, in order.
    #[inline]
    pub fn shown_in(&self, from: u128, to: u128) -> impl Iterator<Item = u128> + '_ {
        let at = self.chunk_of(from);
        let lists =
            self.firsts.get(at..).into_iter().flatten().zip(self.shown.get(at..).into_iter().flatten());
        let chunks = self.chunks.get(at..).into_iter().flatten();
        let some = lists.zip(chunks).take_while(move |((first, _), _)| **first <= to);
        let some = some.filter(|((_, shown), _)| **shown > 0).map(|(_, chunk)| chunk);
        let keys =
            some.flat_map(move |chunk| chunk.get(chunk.partition_point(|k| *k < from)..).unwrap_or_default());
        keys.copied().take_while(move |k| *k <= to).filter(|k| is_shown(*k))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl Sorted {
        fn check(&self, model: &BTreeSet<u128>) {
            assert!(self.iter().eq(model.iter().copied()));
            assert_eq!([self.firsts.len(), self.shown.len()], [self.chunks.len(); 2]);
            for (first, chunk) in self.firsts.iter().zip(&self.chunks) {
                assert!(chunk.len() <= MOST && chunk.first() == Some(first));
            }
            for (shown, chunk) in self.shown.iter().zip(&self.chunks) {
                assert_eq!(*shown, count_shown(chunk));
            }
        }
    }

    #[test]
    fn random_keys_are_those_of_a_set_of_the_standard_library() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            let range = [20, 300, 5000][seed as usize % 3];
            for turn in 0..6000 {
                // It grows and shrinks.
                let key = rng.u128(..range);
                if rng.u32(..100) < if turn % 2000 < 1000 { 70 } else { 20 } {
                    if model.insert(key) {
                        sorted.insert(key);
                    }
                } else {
                    let neighbours = sorted.remove(key);
                    assert_eq!(neighbours.is_some(), model.remove(&key));
                    if let Some(neighbours) = neighbours {
                        let before = model.range(..key).next_back().copied();
                        assert_eq!(neighbours, [before, model.range(key..).next().copied()]);
                    }
                }
                if turn % 50 == 0 {
                    sorted.check(&model);
                    let from = rng.u128(..range);
                    let to = from + rng.u128(..range);
                    assert!(
                        sorted
                            .shown_in(from, to)
                            .eq(model.range(from..=to).copied().filter(|k| is_shown(*k)))
                    );
                }
            }
            for key in model.iter().copied().collect::<Vec<_>>() {
                assert!(model.remove(&key) && sorted.remove(key).is_some());
                sorted.check(&model);
            }
            assert!(sorted.is_empty() && sorted.firsts.is_empty());
        }
    }

    #[test]
    fn a_key_is_replaced_where_it_stands() {
        let mut sorted = Sorted::default();
        let mut model: BTreeSet<u128> = (0..500).map(|k| k * 2).collect();
        model.iter().for_each(|k| sorted.insert(*k));
        for key in (0..500).step_by(7).chain((0..500).step_by(64)).map(|k| k * 2) {
            if model.remove(&key) {
                model.insert(key + 1);
                sorted.replace(key, key + 1);
                sorted.check(&model);
            }
        }
        sorted.replace(10_000, 10_001);
        sorted.check(&model);
    }

    #[test]
    fn keys_that_come_in_order_fill_the_chunks() {
        for down in [false, true] {
            let mut sorted = Sorted::default();
            for i in 0..6400_u128 {
                sorted.insert(if down { 6400 - i } else { i });
            }
            assert_eq!(sorted.chunks.len(), 100);
            assert!(sorted.chunks.iter().all(|c| c.len() == MOST && c.capacity() == MOST));
        }
    }

    #[test]
    fn keys_that_come_in_order_between_full_chunks_share_new_ones() {
        for down in [false, true] {
            let mut sorted = Sorted::default();
            (0..640).for_each(|k| sorted.insert(k * 1000));
            for i in 0..640_u128 {
                sorted.insert(63_001 + if down { 640 - i } else { i });
            }
            assert!(sorted.chunks.len() <= 21, "{} chunks for 1280 keys", sorted.chunks.len());
        }
    }

    #[test]
    fn chunks_of_hidden_keys_are_passed_over() {
        let mut sorted = Sorted::default();
        (0..6400).for_each(|k| sorted.insert(k * 2 + 1));
        assert_eq!(sorted.shown_in(0, u128::MAX).next(), None);
        for key in [0, 640, 6399].map(|k| k * 2) {
            sorted.replace(key + 1, key);
        }
        assert!(sorted.shown_in(0, u128::MAX).eq([0, 1280, 12798]));
        assert_eq!(sorted.shown.iter().filter(|n| **n > 0).count(), 3);
        sorted.replace(1280, 1281);
        assert!(sorted.shown_in(1, 12798).eq([12798]));
        assert!(sorted.shown_in(0, 12797).eq([0]));
    }

    #[test]
    fn a_set_that_shrinks_gives_its_chunks_back() {
        let mut sorted = Sorted::default();
        (0..6400).for_each(|k| sorted.insert(k));
        (0..6400).filter(|k| k % 64 != 0).for_each(|k| assert!(sorted.remove(k).is_some()));
        assert!(sorted.chunks.len() <= 100 / FEW + 1, "{} chunks for 100 keys", sorted.chunks.len());
    }
}
