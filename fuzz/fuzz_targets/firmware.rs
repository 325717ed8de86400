//! Files that are loaded: ELF, U-Boot images (compressed or not) and raw ones, of either byte order. What is taken lies in the window
//! that the board has for it.

#![no_main]

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use flatview::Endianness;
use flatview_board::firmware::{Target, load};
use libfuzzer_sys::fuzz_target;

/// A file for each process that fuzzes, which has no name and goes with it.
static FILE: LazyLock<(PathBuf, Mutex<File>)> = LazyLock::new(|| {
    let name = std::env::temp_dir().join(format!("flatview-fuzz-firmware-{}", std::process::id()));
    let file = File::create(&name).expect("a temporary file");
    std::fs::remove_file(&name).expect("it was just made");
    (PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), Mutex::new(file))
});

const WINDOW: (u64, u64) = (0x1000, 0x00ff_ffff);

fuzz_target!(|input: &[u8]| {
    // What tells how to take it stands last, so that any file begins an input.
    let Some((how, bytes)) = input.split_last() else { return };
    let [big, raw, uimage] = [1, 2, 4].map(|bit| how & bit != 0);
    let (path, file) = &*FILE;
    {
        let mut file = file.lock().expect("nobody panics with it");
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(bytes))
            .expect("room for it");
    }
    let target = Target {
        what: "kernel",
        raw_at: raw.then_some(WINDOW.0),
        window: WINDOW,
        machine: 8,
        machine_name: "MIPS",
        endianness: if big { Endianness::Big } else { Endianness::Little },
        translate: |addr| addr & 0x1fff_ffff,
        twin: None,
        uimage: uimage.then_some(5),
    };
    match load(path, &target) {
        Ok(image) => {
            for rom in &image.roms {
                let end = rom.addr.checked_add(rom.data.len() as u64);
                assert!(
                    rom.data.is_empty() || rom.addr >= WINDOW.0 && end.is_some_and(|end| end <= WINDOW.1 + 1)
                );
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
});
