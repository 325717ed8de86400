//! A device that notes its calls.

use std::sync::Arc;

use flatview::*;
use parking_lot::Mutex;

/// Calls: `r` or `w`, offset, size, value.
pub type Calls = Arc<Mutex<Vec<(char, u64, u32, u64)>>>;

/// Callbacks that note their calls; reads give the offset in every byte.
pub fn noting(rules: AccessRules) -> (Ops, Calls) {
    let calls = Calls::default();
    let (r, w) = (Arc::clone(&calls), Arc::clone(&calls));
    let ops = Ops::new()
        .rules(rules.endian(DeviceEndian::Little))
        .read(move |a| {
            r.lock().push(('r', a.offset(), a.size(), 0));
            Ok((0..u64::from(a.size())).fold(0, |v, i| v | ((a.offset() + i) & 0xff) << (8 * i)))
        })
        .write(move |a, value| {
            w.lock().push(('w', a.offset(), a.size(), value));
            Ok(())
        });
    (ops, calls)
}

/// The calls since the last time.
pub fn taken(calls: &Calls) -> Vec<(char, u64, u32, u64)> {
    std::mem::take(&mut calls.lock())
}
