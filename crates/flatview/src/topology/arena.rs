//! Numbered slots with generations.

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

struct Cell<T> {
    /// Of the value that is or was here last.
    generation: u32,
    /// Of the next value: never given twice, also when an insertion is undone.
    next: u32,
    value: Option<T>,
}

/// Values under indexes that are used again, with a generation that tells the uses apart.
pub(crate) struct Arena<T> {
    cells: Vec<Cell<T>>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub fn new() -> Self {
        Self { cells: Vec::new(), free: Vec::new() }
    }

    /// The index and generation the next [`insert`](Self::insert) will use; `None` when full.
    pub fn next(&self) -> Option<(u32, u32)> {
        match self.free.last() {
            Some(&index) => Some((index, self.cells.get(index as usize)?.next)),
            None => u32::try_from(self.cells.len()).ok().filter(|i| *i != NONE).map(|i| (i, 0)),
        }
    }

    /// Puts a value at the place that [`next`](Self::next) named.
    pub fn insert(&mut self, value: T) {
        match self.free.pop().and_then(|i| self.cells.get_mut(i as usize)) {
            Some(cell) => {
                cell.generation = cell.next;
                cell.next = cell.next.wrapping_add(1);
                cell.value = Some(value);
            }
            None => self.cells.push(Cell { generation: 0, next: 1, value: Some(value) }),
        }
    }

    /// Takes a value out; ids of it become stale.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.cells.get_mut(index as usize)?.value.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Undoes [`remove`](Self::remove) of a value of that generation: its ids are good again.
    pub fn undo_remove(&mut self, index: u32, generation: u32, value: T) {
        if let Some(at) = self.free.iter().rposition(|i| *i == index) {
            self.free.remove(at);
        }
        if let Some(cell) = self.cells.get_mut(index as usize) {
            cell.generation = generation;
            cell.value = Some(value);
        }
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.cells.get(index as usize)?.value.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.cells.get_mut(index as usize)?.value.as_mut()
    }

    pub fn generation(&self, index: u32) -> Option<u32> {
        self.cells.get(index as usize).map(|c| c.generation)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.cells).filter_map(|(i, c)| Some((i, c.value.as_ref()?)))
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
}
