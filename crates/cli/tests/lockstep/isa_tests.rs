//! The ISA tests of `guests/` on both machines.

#[path = "../../../cpu/tests/support/image.rs"]
mod image;

use std::path::Path;

use flatview::Endianness;
use image::Image;

use crate::guest::Guest;
use crate::lockstep::Lockstep;
use crate::{both, env_number, orders};

/// Steps in the group itself, unless all are asked for.
const SOME: u64 = 1_000;
/// How often a short loop is stepped.
const MOST_ROUNDS: u32 = 40;

/// Where a guest's images are, and what must be set in them.
pub struct Images {
    /// In `guests/images`.
    pub folder: fn(Endianness) -> &'static str,
    /// Addresses and values.
    pub words: &'static [(u32, u32)],
    /// How many groups there are at least.
    pub least: u32,
}

/// What was stepped, and how much was run without a look between.
struct Done {
    steps: u64,
    runs: u32,
}

fn step_group<G: Guest>(
    lockstep: &mut Lockstep<G>,
    images: &Images,
    image: &Image,
    most: u64,
) -> Result<Done, String> {
    let (at, piece) = image.piece();
    lockstep.write(at, piece);
    images.words.iter().for_each(|(at, value)| lockstep.write_words(*at, &[*value]));
    let mut state = lockstep.now.clone();
    (1..32).for_each(|n| state.set(n, 0));
    state.set(G::PC, image.entry());
    lockstep.set(&state);
    let (group, done) = (image.symbol("group"), image.symbol("guest_done"));
    let (mut steps, mut runs) = (0, 0);
    // What comes before is the same in all images.
    if most != u64::MAX {
        lockstep.run(&[group])?;
        runs += 1;
    }
    // The backward branch that was done last, and how often.
    let (mut branch, mut rounds) = (0, 0);
    while steps < most && lockstep.now.pc() & !3 != done & !3 {
        let step = lockstep.step()?;
        steps += 1;
        let pc = lockstep.now.pc();
        if let Some(from) = step.branch.filter(|from| pc < *from && from - pc <= 48 && !step.exception) {
            rounds = if branch == from { rounds + 1 } else { 1 };
            branch = from;
            if rounds == MOST_ROUNDS {
                lockstep.compare_stored()?;
                lockstep.run(&[branch.wrapping_add(if G::DELAY_SLOTS { 8 } else { 4 }), done])?;
                (runs, rounds) = (runs + 1, 0);
            }
        }
    }
    lockstep.compare_stored()?;
    if lockstep.now.pc() & !3 != done & !3 {
        lockstep.run(&[done])?;
        runs += 1;
    }
    let (log, used) = (image.symbol("guest_log"), image.symbol("guest_log_used"));
    lockstep.compare_memory(used, 4)?;
    lockstep.compare_memory(log, 1024)?;
    Ok(Done { steps, runs })
}

/// Steps every group that the table does not leave out.
pub fn run_alike<G: Guest>(images: &Images) {
    let most = if env_number("FLATVIEW_LOCKSTEP").is_some() { u64::MAX } else { SOME };
    let only = std::env::var("FLATVIEW_GROUP").ok();
    let mut failures = Vec::new();
    for order in orders::<G>() {
        let folder = (images.folder)(order);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/images").join(folder);
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mut groups = 0;
        for path in paths {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let Some(group) = name.strip_prefix("isa-") else { continue };
            if only.as_ref().is_some_and(|only| only != group) {
                continue;
            }
            let mut lockstep = both::<G>(order);
            if lockstep.masks.leaves_out_group(group) {
                println!("{order:?} {group}: left out, as docs/lockstep.md says");
                continue;
            }
            let image = Image::read(&path, order);
            match step_group(&mut lockstep, images, &image, most) {
                Ok(done) => println!(
                    "{order:?} {group}: {} steps, {} words of memory compared, {} times run to a place without steps",
                    done.steps, lockstep.compared_words, done.runs
                ),
                Err(text) => failures.push(format!("{order:?} {group}: {text}")),
            }
            groups += 1;
        }
        assert!(groups >= images.least || only.is_some(), "{groups} groups");
    }
    assert!(failures.is_empty(), "{} groups differ:\n{}", failures.len(), failures.join("\n\n"));
}
