//! An ordered set of numbers in few, well-filled pieces of memory.
//!
//! What it is: the keys in order, cut into chunks, with a list of where each begins, so that a search in 100,000 keys
//! looks at that list and at one chunk. What it is not: balanced over levels; a set of many millions, filled in no
//! order, would move its list about.
//!
//! What must hold: no chunk is empty or holds more than [`MOST`]; a chunk's entry in the list is its first key.

/// Keys of a chunk.
const MOST: usize = 64;
/// A chunk below this is joined with a neighbour if the two fit into one.
const FEW: usize = MOST / 4;

#[derive(Default)]
pub(super) struct Sorted {
    /// The first key of each chunk; apart from the chunks, so that a search stays in few cache lines.
    firsts: Vec<u128>,
    chunks: Vec<Vec<u128>>,
}

/// The keys before and after one that was taken out.
pub(super) type Neighbours = [Option<u128>; 2];

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
        if place == 0 {
            self.note_first(at);
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
            self.chunks.insert(at, chunk);
        }
    }

    /// Takes a key out and gives its neighbours; `None` if it is not there.
    pub fn remove(&mut self, key: u128) -> Option<Neighbours> {
        let at = self.chunk_of(key);
        let chunk = self.chunks.get_mut(at)?;
        let place = chunk.binary_search(&key).ok()?;
        chunk.remove(place);
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

    /// Joins a small chunk with a neighbour.
    fn join(&mut self, at: usize) {
        let len = |at: usize| self.chunks.get(at).map_or(MOST, Vec::len);
        let fits = |lower: &usize| len(*lower) + len(lower + 1) <= MOST;
        if len(at) == 0 {
            self.chunks.remove(at);
            self.firsts.remove(at);
        } else if let Some(lower) = [at.saturating_sub(1), at].into_iter().find(fits) {
            let upper = self.chunks.remove(lower + 1);
            self.firsts.remove(lower + 1);
            if let Some(chunk) = self.chunks.get_mut(lower) {
                chunk.extend(upper);
            }
        }
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        self.chunks.iter().flatten().copied()
    }

    /// The keys from `key` on, in order.
    #[inline]
    pub fn iter_from(&self, key: u128) -> impl Iterator<Item = u128> + '_ {
        let at = self.chunk_of(key);
        let chunk = self.chunks.get(at).map_or(&[][..], Vec::as_slice);
        let here = chunk.get(chunk.partition_point(|k| *k < key)..).unwrap_or_default();
        let later = self.chunks.get(at + 1..).unwrap_or_default();
        here.iter().chain(later.iter().flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl Sorted {
        fn check(&self, model: &BTreeSet<u128>) {
            assert!(self.iter().eq(model.iter().copied()));
            assert_eq!(self.firsts.len(), self.chunks.len());
            for (first, chunk) in self.firsts.iter().zip(&self.chunks) {
                assert!(chunk.len() <= MOST && chunk.first() == Some(first));
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
                    assert!(sorted.iter_from(from).eq(model.range(from..).copied()));
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
    fn a_set_that_shrinks_gives_its_chunks_back() {
        let mut sorted = Sorted::default();
        (0..6400).for_each(|k| sorted.insert(k));
        (0..6400).filter(|k| k % 64 != 0).for_each(|k| assert!(sorted.remove(k).is_some()));
        assert!(sorted.chunks.len() <= 100 / FEW + 1, "{} chunks for 100 keys", sorted.chunks.len());
    }
}
