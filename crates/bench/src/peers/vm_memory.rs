//! rust-vmm's vm-memory, on the very bytes that Flatview's RAM has.
//!
//! UNSAFE: vm-memory is told to use memory that is mapped already.
#![expect(unsafe_code, reason = "vm-memory takes memory that is mapped already only as a raw pointer")]

use ::vm_memory::mmap::MmapRegionBuilder;
use ::vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::raw::RawRam;
use crate::error::BenchError;

/// PROT_READ | PROT_WRITE and MAP_NORESERVE | MAP_ANONYMOUS | MAP_PRIVATE of Linux, which vm-memory keeps to be asked.
const PROT: i32 = 3;
const FLAGS: i32 = 0x4022;

/// vm-memory with two regions, as its own benches have at least: `ram` at 0, and a small one of its own at 2^40.
///
/// # Errors
/// [`BenchError::VmMemory`]
pub fn over(ram: &RawRam) -> Result<GuestMemoryMmap<()>, BenchError> {
    let told = |e: &dyn std::fmt::Display| BenchError::VmMemory(e.to_string());
    let builder =
        MmapRegionBuilder::<()>::new(ram.len() as usize).with_mmap_prot(PROT).with_mmap_flags(FLAGS);
    // SAFETY: the guard in `ram` keeps the bytes mapped, and callers keep `ram` beside what they get here.
    let built = unsafe { builder.with_raw_mmap_pointer(ram.as_ptr()) }.build();
    let region = built.map_err(|e| told(&e))?;
    let first = GuestRegionMmap::new(region, GuestAddress(0));
    let first = first.ok_or_else(|| BenchError::VmMemory("region out of range".into()))?;
    let second = GuestRegionMmap::from_range(GuestAddress(1 << 40), 1 << 20, None).map_err(|e| told(&e))?;
    GuestMemoryMmap::from_regions(vec![first, second]).map_err(|e| told(&e))
}
