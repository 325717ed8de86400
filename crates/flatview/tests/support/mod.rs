//! What the tests with random maps share: seeds, a model of the tree, and the generator of maps and changes.

pub mod model;
pub mod seeds;
pub mod world;
