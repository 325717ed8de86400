//! Changes of page protection on the `cpiom` board, by a guest's writes to its table: what one page costs where 8,192 are
//! concerned, beside one where 8 are.

use super::ram::raw_same;
use crate::error::BenchError;
use crate::limits::OURS;
use crate::maps::{Protected, Ram};
use crate::measure::{Contender, Plan};
use crate::run::Run;

/// Whom the figures are compared with.
pub(super) const OF_FEW: &str = "of 8";
const FEW: u64 = 8;

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    // Each second page, which makes a range of every page; and all of them, which makes one range.
    for (figure, alternating) in [("cpiom/protect/8192 ranges", true), ("cpiom/protect/8192 pages", false)] {
        if !run.wants(figure) {
            continue;
        }
        let ram = Ram::new(1)?;
        let few = &Protected::new(FEW, alternating)?;
        let many = &Protected::new(Protected::PAGES, alternating)?;
        let contenders = vec![
            raw_same(&ram.raw),
            Contender::new(OF_FEW, |ops, seed| few.toggle(ops, seed)),
            Contender::new(OURS, |ops, seed| many.toggle(ops, seed)),
        ];
        run.race(figure, contenders, &[(OURS, OF_FEW)], Plan::LONG)?;
    }
    Ok(())
}
