//! The `flatview` command.

fn main() {}
