//! How far preallocation is, on a terminal.
//!
//! One line on standard error, which goes when all is done. Nothing where standard error is no terminal, and nothing for
//! what is done in a moment.

use flatview_board::PreallocHook;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{Mutex, PoisonError};

/// Less than this is there before anybody has read the line.
const WORTH_A_LINE: u64 = 32 << 20;

/// Shows a bar for each back end in turn.
pub fn hook() -> PreallocHook {
    let shown: Mutex<Option<ProgressBar>> = Mutex::new(None);
    PreallocHook::new(move |id, progress| {
        // A panic elsewhere in here leaves a bar that is wrong at worst.
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.done >= progress.total {
            if let Some(bar) = shown.take() {
                bar.finish_and_clear();
            }
        } else if progress.done == 0 {
            // It draws on standard error, and only if that is a terminal.
            *shown = (progress.total >= WORTH_A_LINE).then(|| bar(id, progress.total));
        } else if let Some(bar) = &*shown {
            bar.set_position(progress.done);
        }
    })
}

fn bar(id: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(format!("preallocating {id}"));
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes} {eta}");
    // The template is one that is known to be good.
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
