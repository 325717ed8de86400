//! Whether somebody is told of each callback.
//!
//! What it is: one switch for all regions. What it is not: who is told; that is the [`Memory`](crate::Memory)'s.
//!
//! What must hold: what is turned on or off touches every region that has callbacks, so that every range of them is made
//! anew.

use super::Topology;
use super::tree::Undo;
use crate::span::Span;

impl Topology {
    /// Whether somebody is told of each callback.
    pub fn is_traced(&self) -> bool {
        self.traced
    }

    /// Turns that on or off.
    pub fn set_traced(&mut self, on: bool) {
        if self.traced == on {
            return;
        }
        self.undo.push(Undo::Traced { old: self.traced });
        self.traced = on;
        let answering = self.records().filter(|(_, record)| record.body.ops().is_some());
        let all: Vec<_> =
            answering.filter_map(|(i, record)| Some((i, Span::sized(0, record.attrs.size())?))).collect();
        self.touched.extend(all);
    }
}
