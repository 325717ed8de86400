//! Numbered slots with generations.

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// Cells of a chunk, as a power of two.
const SHIFT: u32 = 7;

struct Cell<T> {
    /// Of the value that is or was here last.
    generation: u32,
    /// Of the next value: never given twice, also when an insertion is undone.
    next: u32,
    value: Option<T>,
}

/// Values under indexes that are used again, with a generation that tells the uses apart.
///
/// In chunks of one size: a growing map copies nothing, and has at most one chunk too much.
pub(crate) struct Arena<T> {
    /// All but the last are full.
    chunks: Vec<Vec<Cell<T>>>,
    /// Cells in all chunks.
    len: usize,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub fn new() -> Self {
        Self { chunks: Vec::new(), len: 0, free: Vec::new() }
    }

    #[inline]
    fn cell(&self, index: u32) -> Option<&Cell<T>> {
        self.chunks.get((index >> SHIFT) as usize)?.get((index & ((1 << SHIFT) - 1)) as usize)
    }

    #[inline]
    fn cell_mut(&mut self, index: u32) -> Option<&mut Cell<T>> {
        self.chunks.get_mut((index >> SHIFT) as usize)?.get_mut((index & ((1 << SHIFT) - 1)) as usize)
    }

    /// The index and generation the next [`insert`](Self::insert) will use; `None` when full.
    pub fn next(&self) -> Option<(u32, u32)> {
        match self.free.last() {
            Some(&index) => Some((index, self.cell(index)?.next)),
            None => u32::try_from(self.len).ok().filter(|i| *i != NONE).map(|i| (i, 0)),
        }
    }

    /// Puts a value at the place that [`next`](Self::next) named.
    pub fn insert(&mut self, value: T) {
        let free = self.free.pop();
        if let Some(cell) = free.and_then(|i| self.cell_mut(i)) {
            cell.generation = cell.next;
            cell.next = cell.next.wrapping_add(1);
            cell.value = Some(value);
            return;
        }
        if self.chunks.last().is_none_or(|c| c.len() == 1 << SHIFT) {
            self.chunks.push(Vec::with_capacity(1 << SHIFT));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Cell { generation: 0, next: 1, value: Some(value) });
            self.len += 1;
        }
    }

    /// Takes a value out; ids of it become stale.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.cell_mut(index)?.value.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Undoes [`remove`](Self::remove) of a value of that generation: its ids are good again.
    pub fn undo_remove(&mut self, index: u32, generation: u32, value: T) {
        if let Some(at) = self.free.iter().rposition(|i| *i == index) {
            self.free.remove(at);
        }
        if let Some(cell) = self.cell_mut(index) {
            cell.generation = generation;
            cell.value = Some(value);
        }
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.cell(index)?.value.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.cell_mut(index)?.value.as_mut()
    }

    /// Of the value that is or was there last.
    #[inline]
    pub fn generation(&self, index: u32) -> Option<u32> {
        self.cell(index).map(|c| c.generation)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten()).filter_map(|(i, c)| Some((i, c.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_never_given_twice_even_when_work_is_undone() {
        let mut arena = Arena::new();
        assert_eq!(arena.next(), Some((0, 0)));
        arena.insert('a');
        arena.remove(0);
        assert_eq!(arena.next(), Some((0, 1)));
        arena.insert('b');
        arena.remove(0);
        arena.undo_remove(0, 0, 'a');
        assert_eq!((arena.generation(0), arena.get(0)), (Some(0), Some(&'a')));
        arena.remove(0);
        assert_eq!(arena.next(), Some((0, 2)));
    }

    #[test]
    fn indexes_go_on_from_chunk_to_chunk_and_are_used_again() {
        let mut arena = Arena::new();
        for i in 0..1000_u32 {
            assert_eq!(arena.next(), Some((i, 0)));
            arena.insert(i);
        }
        assert!(arena.iter().map(|(i, v)| (i, *v)).eq((0..1000).map(|i| (i, i))));
        assert_eq!((arena.remove(500), arena.remove(500), arena.get(500)), (Some(500), None, None));
        assert_eq!(arena.next(), Some((500, 1)));
        arena.insert(7);
        assert_eq!((arena.get(500), arena.next()), (Some(&7), Some((1000, 0))));
        assert_eq!((arena.get(1000), arena.get(NONE)), (None, None));
    }
}
