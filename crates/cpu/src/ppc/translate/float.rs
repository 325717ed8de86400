//! Floating point (PEM, sections 4.2.2 and 4.2.3.7).

use super::super::helpers::id;
use super::super::state::mode;
use super::{Flow, NOBODY, T0, Translator, Word};

impl Translator {
    fn is_unavailable(&self) -> bool {
        self.mode & mode::FP == 0
    }

    fn unavailable(&mut self) -> Flow {
        self.call(id::FP_UNAVAILABLE, NOBODY, T0, T0);
        Flow::Gone
    }

    fn unmodelled(&mut self, w: Word) -> Flow {
        self.constant(T0, w.0);
        self.call(id::UNMODELLED, NOBODY, T0, T0);
        Flow::Gone
    }

    pub(super) fn float(&mut self, w: Word) -> Flow {
        if self.is_unavailable() {
            return self.unavailable();
        }
        self.unmodelled(w)
    }

    pub(super) fn float_indexed(&mut self, w: Word) -> Flow {
        self.float(w)
    }
}
