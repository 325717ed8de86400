//! The text of `info mtree`, from whatever wrote it: it is read or refused, and what was read is made into regions or refused. The map
//! of those can be written, and read again as it was written.

#![no_main]

use flatview::mtree::{Document, Options, import, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(document) = Document::parse("input", text) else { return };
    let Ok(imported) = import(&document, None) else { return };
    for (flat, owner) in [(false, false), (true, true)] {
        let options = Options { flat, dispatch: false, owner, disabled: !flat };
        let Ok(written) = write(&imported.memory, options) else { continue };
        let written = written.to_string();
        match Document::parse("written", written.as_bytes()) {
            Ok(read) => assert_eq!(read.to_string(), written),
            Err(e) => panic!("what was written cannot be read: {e}\n{written}"),
        }
    }
});
