//! The target description: which registers there are, for debuggers that ask (`target.xml`).
//!
//! There is no memory map: debuggers read one as virtual addresses, which the CPU maps as it likes.

use flatview_board::cpu::{DebugRegister, GuestCpu};
use std::fmt::Write;

/// The description of a CPU.
pub(super) fn of(cpu: &dyn GuestCpu) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n\
         <architecture>{}</architecture>\n",
        cpu.debug_architecture()
    );
    let registers = cpu.debug_registers();
    let mut features: Vec<&str> = Vec::new();
    for register in registers {
        if !features.contains(&register.feature) {
            features.push(register.feature);
        }
    }
    for feature in features {
        let _ = writeln!(text, "<feature name=\"{feature}\">");
        for register in registers.iter().filter(|register| register.feature == feature) {
            let _ = writeln!(text, "{}", line(register));
        }
        text.push_str("</feature>\n");
    }
    text.push_str("</target>\n");
    text
}

fn line(register: &DebugRegister) -> String {
    let DebugRegister { name, bits, number, kind, group, .. } = register;
    let group = match group {
        // A call that the debugger makes must not write back the state of the system.
        Some("system") => " group=\"system\" save-restore=\"no\"".to_owned(),
        Some(group) => format!(" group=\"{group}\""),
        None => String::new(),
    };
    let kind = kind.name(*bits);
    format!("<reg name=\"{name}\" bitsize=\"{bits}\" regnum=\"{number}\" type=\"{kind}\"{group}/>")
}
