//! KVM itself: a guest in 16-bit real mode that touches everything there is; slots under random changes, looked at through a
//! vCPU; and slots that are replaced under a guest that runs.
//!
//! Where there is no /dev/kvm, or no x86-64 host, the tests say that they were skipped; with `FLATVIEW_REQUIRE_KVM=1` (as in
//! CI where it can be opened) they fail instead.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod changes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guest;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod real_mode;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod running;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "what other tests use")]
mod support;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn guests_are_of_x86_and_need_such_a_host() {
    assert!(std::env::var_os("FLATVIEW_REQUIRE_KVM").is_none(), "the guests are x86 programs");
    println!("skipped: the guests are x86 programs");
}
