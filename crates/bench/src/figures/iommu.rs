//! Loads through an IOMMU: of pages that the reader remembers, and of more pages than it can.

use flatview::{IommuEntry, IommuOps, IommuPerm, IommuRequest, Reader, Region, WeakSpace};

use super::ram::load_random;
use crate::error::BenchError;
use crate::limits::{OURS, RAW};
use crate::maps::{RAM, Ram};
use crate::measure::{Contender, Plan};
use crate::run::Run;

const PAGE: u64 = 4096;

/// A table of pages in the device, which puts neighbours in each other's place.
struct Swapped {
    pages: Vec<u64>,
    target: WeakSpace,
}

impl IommuOps for Swapped {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        let page = usize::try_from(request.offset() / PAGE).ok().and_then(|page| self.pages.get(page));
        match page {
            Some(address) => IommuEntry::new(&self.target, *address, PAGE - 1, IommuPerm::READ_WRITE),
            None => IommuEntry::denied(PAGE - 1),
        }
    }
}

/// The same RAM behind an IOMMU.
fn behind(ram: &Ram) -> Result<Reader, BenchError> {
    let pages = (0..RAM / PAGE).map(|page| (page ^ 1) * PAGE).collect();
    let device = Swapped { pages, target: ram.space().downgrade() };
    let iommu = ram.memory.add(Region::iommu("iommu", RAM.into(), device))?;
    Ok(ram.memory.address_space("bus master", iommu)?.reader())
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    for (figure, pages) in [("iommu/hit", 64), ("iommu/miss", RAM / PAGE)] {
        if !run.wants(figure) {
            continue;
        }
        let ram = Ram::new(1)?;
        let (raw, reader, through) = (&ram.raw, &ram.reader(), &behind(&ram)?);
        let words = pages * PAGE / 8;
        // All pages have the same bytes, so that the sums are the same.
        let contenders = vec![
            Contender::new(RAW, |ops, seed| raw.load_random(ops, seed, words)),
            Contender::new(OURS, |ops, seed| load_random(through, ops, seed, words)),
            Contender::new("flatview, no IOMMU", |ops, seed| load_random(reader, ops, seed, words)),
        ];
        run.race(figure, contenders, &[], Plan::QUICK)?;
    }
    Ok(())
}
