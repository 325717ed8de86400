//! rust-vmm's crates on Flatview's memory: what their device models, loaders and kernel interfaces need beside the
//! traits that the library implements with its feature `vm-memory`.
//!
//! What it is: two tables of RAM that follow a map, for vhost (`vhost`) and for VFIO (`dma`), small enough to be
//! taken over; the book's chapter "Moving from vm-memory" tells how, and its code is run from here. With them come the
//! proofs that virtio-queue, linux-loader, vhost and vfio-ioctls run on our memory as they are (`tests/`). What it is not:
//! published; the versions of those crates are a user's choice.
//!
//! All of it needs the feature `peers`.

#[cfg(feature = "peers")]
pub mod dma;
#[cfg(feature = "peers")]
pub mod vhost;

#[cfg(all(doctest, feature = "peers"))]
#[doc = include_str!("../../../docs/rust-vmm.md")]
struct Book;
