//! How far preallocation is, on a terminal.
//!
//! One line on standard error, which goes when all is done. Nothing where standard error is no terminal, and nothing for
//! what is done in a moment.

use flatview_board::PreallocHook;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What takes less is not worth a line that flashes.
const PATIENCE: Duration = Duration::from_millis(200);

struct Shown {
    since: Instant,
    bar: Option<ProgressBar>,
}

/// Shows a bar for each back end in turn.
pub fn hook() -> PreallocHook {
    let shown: Mutex<Option<Shown>> = Mutex::new(None);
    PreallocHook::new(move |id, progress| {
        // A panic elsewhere in here leaves a bar that is wrong at worst.
        let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if progress.done == 0 {
            *shown = Some(Shown { since: Instant::now(), bar: None });
            return;
        }
        let Some(now) = shown.as_mut() else { return };
        if progress.done >= progress.total {
            if let Some(bar) = &now.bar {
                bar.finish_and_clear();
            }
            *shown = None;
        } else if now.since.elapsed() >= PATIENCE {
            // It draws on standard error, and only if that is a terminal.
            now.bar.get_or_insert_with(|| bar(id, progress.total)).set_position(progress.done);
        }
    })
}

fn bar(id: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(format!("preallocating {id}"));
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes} {eta}");
    // The template is one that is known to be good.
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
