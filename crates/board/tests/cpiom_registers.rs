//! The data sheet of the `cpiom` board, `docs/boards/cpiom-registers.md`, against the models and the board, and a test for
//! every register in it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use flatview::{Be, MemTxResult};
use flatview_board::device::RegisterInfo;
use flatview_board::{Cause, Machine, MachineConfig, Request};
use flatview_hw::cpiom::register_tables;

const SHEET: &str = include_str!("../../../docs/boards/cpiom-registers.md");

/// A register of the sheet.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    offset: u64,
    count: u64,
    reset: u64,
    writable: u64,
    clears: u64,
    /// Bits that mean something.
    listed: u64,
}

/// A table of the sheet: region, address, registers.
struct Table {
    region: String,
    base: u64,
    rows: Vec<Row>,
}

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches('+'), 16)
        .unwrap_or_else(|_| panic!("'{text}' is no hexadecimal number"))
}

/// `7` or `31–16` as a mask.
fn bits(text: &str) -> u64 {
    let range: RangeInclusive<u32> = match text.split_once('–') {
        Some((high, low)) => low.parse().unwrap()..=high.parse().unwrap(),
        None => text.parse().unwrap()..=text.parse().unwrap(),
    };
    range.map(|bit| 1 << bit).sum()
}

/// The sheet's register tables: those below a heading "Registers of `REGION` at ADDRESS".
fn sheet() -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut inside = false;
    for line in SHEET.lines() {
        if line.starts_with('#') {
            inside = false;
            if let Some(heading) = line.strip_prefix("### Registers of `") {
                let (region, base) = heading.split_once("` at ").unwrap();
                tables.push(Table { region: region.to_owned(), base: hexadecimal(base), rows: Vec::new() });
                inside = true;
            }
            continue;
        }
        if !inside || !line.starts_with('|') || line.starts_with("| offset") || line.starts_with("|-") {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [offset, name, reset, field, access, meaning] = cells[..] else {
            panic!("'{line}' has not six cells")
        };
        assert!(!meaning.is_empty(), "{line}");
        let rows = &mut tables.last_mut().unwrap().rows;
        if !name.is_empty() {
            let (first, last) = offset.split_once('–').unwrap_or((offset, offset));
            let (first, last) = (hexadecimal(first), hexadecimal(last));
            rows.push(Row {
                name: name.to_owned(),
                offset: first,
                count: (last - first) / 4 + 1,
                reset: hexadecimal(reset),
                writable: 0,
                clears: 0,
                listed: 0,
            });
        }
        let row = rows.last_mut().unwrap();
        let mask = bits(field);
        assert_eq!(row.listed & mask, 0, "{line}: bits are listed twice");
        row.listed |= mask;
        match access {
            "rw" => row.writable |= mask,
            "w1c" => row.clears |= mask,
            "ro" => {}
            other => panic!("{line}: access '{other}'"),
        }
    }
    tables
}

fn machine() -> Arc<Machine> {
    Machine::new(MachineConfig { start_stopped: true, qtest: true, ..MachineConfig::new("cpiom") }).unwrap()
}

#[test]
fn the_data_sheet_says_what_the_register_banks_say() {
    let models: BTreeMap<&str, Vec<RegisterInfo>> = register_tables().into_iter().collect();
    let sheet = sheet();
    let regions: BTreeSet<&str> = sheet.iter().map(|table| table.region.as_str()).collect();
    assert_eq!(regions, models.keys().copied().collect(), "every region has its table");
    for table in &sheet {
        let told: Vec<_> = (table.rows.iter())
            .map(|row| (row.name.as_str(), row.offset, row.count, row.reset, row.writable, row.clears))
            .collect();
        let modelled: Vec<_> = (models[table.region.as_str()].iter())
            .map(|r| (r.name, r.offset, r.count, r.reset, r.writable, r.clears))
            .collect();
        assert_eq!(told, modelled, "{}", table.region);
    }
}

#[test]
fn the_tables_stand_where_the_regions_are_mapped() {
    let view = machine().cpu_space().view().unwrap();
    for table in sheet() {
        let range = view.ranges().find(|range| range.name() == table.region).unwrap();
        assert_eq!(range.start(), table.base, "{}", table.region);
        let last = table.rows.last().unwrap();
        assert!(table.base + last.offset + 4 * last.count - 1 <= range.last(), "{}", table.region);
    }
}

/// The addresses of a register: of a row of equal ones, the first and the last.
fn places(table: &Table, row: &Row) -> BTreeSet<u64> {
    let first = table.base + row.offset;
    BTreeSet::from([first, first + 4 * (row.count - 1)])
}

#[test]
fn every_register_has_its_reset_value_after_power_on_and_after_a_reset() {
    let machine = machine();
    let reader = machine.cpu_space().reader();
    let mut seen = 0;
    for write in [None, Some(0xffff_ffff), Some(0x5a5a_5a5a)] {
        for table in sheet() {
            for row in &table.rows {
                for at in places(&table, row) {
                    let value = reader.load::<Be, u32>(at).unwrap();
                    assert_eq!(u64::from(value), row.reset, "{} {} after {write:?}", table.region, row.name);
                    seen += 1;
                }
            }
        }
        let Some(value) = write else { continue };
        for table in sheet() {
            for at in table.rows.iter().flat_map(|row| places(&table, row)) {
                reader.store::<Be, u32>(at, value).unwrap();
            }
        }
        machine.clock().step(Some(1_000_000)).unwrap();
        machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    }
    assert!(seen > 200);
}

#[test]
fn every_register_takes_the_bits_that_are_rw_and_no_others() {
    // INJECT is an address of a word, whose low bits are 0: the values have none, but for the one that disarms.
    let machine = machine();
    let reader = machine.cpu_space().reader();
    for table in sheet() {
        for row in &table.rows {
            for at in places(&table, row) {
                for value in [0xffff_ffff_u32, 0xa5a5_a5a4, 0x5a5a_5a58, 0] {
                    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
                    reader.store::<Be, u32>(at, value).unwrap();
                    let read = u64::from(reader.load::<Be, u32>(at).unwrap());
                    let expected = row.reset & !row.writable & !(u64::from(value) & row.clears)
                        | u64::from(value) & row.writable;
                    assert_eq!(read, expected, "{} {} after {value:#x}", table.region, row.name);
                    assert_eq!(read & !row.listed & !row.reset, 0, "reserved bits");
                }
            }
        }
    }
}

#[test]
fn every_register_is_accessed_as_an_aligned_word_or_not_at_all() {
    let machine = machine();
    let reader = machine.cpu_space().reader();
    let refused = |error: flatview::MemTxError| error.result() == MemTxResult::DECODE_ERROR;
    for table in sheet() {
        for at in table.rows.iter().flat_map(|row| places(&table, row)) {
            for offset in 0..4 {
                assert!(reader.load::<Be, u8>(at + offset).is_err_and(refused), "{} {at:#x}", table.region);
                assert!(
                    reader.store::<Be, u8>(at + offset, 0xff).is_err_and(refused),
                    "{} {at:#x}",
                    table.region
                );
            }
            for offset in [0, 2] {
                assert!(reader.load::<Be, u16>(at + offset).is_err_and(refused), "{} {at:#x}", table.region);
                assert!(
                    reader.store::<Be, u16>(at + offset, 0xffff).is_err_and(refused),
                    "{} {at:#x}",
                    table.region
                );
            }
        }
    }
}

/// Which tests show what a register does: region, register, file, test.
fn tested() -> Vec<(&'static str, String, &'static str, &'static str)> {
    const INTC: (&str, &str) = ("cpiom-intc", include_str!("../../hw/tests/cpiom/intc.rs"));
    const EDC: &str = include_str!("../../hw/tests/cpiom/edc.rs");
    const TIMERS: (&str, &str) = ("cpiom-timers-reg", include_str!("../../hw/tests/cpiom/timers.rs"));
    const BOARD: &str = include_str!("cpiom.rs");
    let mut list = Vec::new();
    let mut add = |(region, file): (&'static str, &'static str), name: &str, test: &'static str| {
        list.push((region, name.to_owned(), file, test));
    };
    add(INTC, "FREEZE", "freeze_holds_the_outputs_and_clearing_it_shows_what_is");
    for bank in ["RST", "MCP", "ITN"] {
        let name = |register: &str| format!("{bank}_{register}");
        add(INTC, &name("PENDING"), "a_rising_edge_stays_pending_until_a_1_is_written_to_its_bit");
        add(INTC, &name("ENABLE"), "a_line_that_is_not_enabled_does_not_win");
        add(INTC, &name("MASK"), "a_masked_line_stays_pending_and_does_not_win");
        add(INTC, &name("LEVEL"), "a_level_line_is_pending_while_it_is_high_whatever_is_cleared");
        for word in 0..8 {
            let test = "every_priority_word_holds_the_priorities_of_its_four_lines";
            add(INTC, &name(&format!("PRIORITY{word}")), test);
        }
        add(INTC, &name("CURRENT"), "current_is_the_winning_lines_number_and_0x3f_without_one");
    }
    for (register, test) in [
        ("CTRL", "ctrl_0_switches_detection_on_and_ctrl_1_the_interrupt"),
        ("STATUS", "status_tells_correctable_from_uncorrectable_and_each_is_cleared_by_a_1"),
        ("COUNT", "count_has_16_saturating_bits_for_each_kind_and_can_be_written"),
        ("ADDR", "addr_is_the_first_errors_and_an_uncorrectable_one_takes_it_from_a_correctable_one"),
    ] {
        add(("cpiom-edc-reg1", EDC), register, test);
    }
    for (register, test) in [
        ("CE_THRESHOLD", "the_line_waits_for_the_threshold_of_correctable_errors"),
        ("UE_THRESHOLD", "the_line_waits_for_the_threshold_of_uncorrectable_errors"),
        ("SCRUB_PERIOD", "writing_the_period_or_enabling_begins_a_pass_and_0_stops"),
        ("SCRUB_PASSES", "passes_are_counted_from_the_clock_however_long_nobody_looks"),
        ("SCRUB_NEXT", "scrub_next_counts_down_to_the_end_of_the_pass"),
        ("SCRUB_FOUND", "an_error_that_waits_is_found_when_the_pass_ends_and_interrupts_then"),
    ] {
        add(("cpiom-edc-reg2", EDC), register, test);
    }
    add(("cpiom-edc-err", EDC), "ERROR", "word_n_of_the_window_is_the_nth_last_error_eight_deep");
    for (register, test) in [
        ("CTRL", "ctrl_starts_the_counter_and_stops_it_where_it_is"),
        ("PRESCALE", "prescale_divides_16_6_mhz_and_0_is_1"),
        ("PERIOD", "a_period_of_0_means_no_ticks"),
        ("COUNTER", "the_counter_goes_from_period_down_to_1_a_step_every_prescale_cycles"),
        ("STATUS", "overrun_tells_that_an_event_came_before_the_last_was_cleared"),
        ("WIN_BEGIN", "windows_begin_and_end_at_their_ticks_of_each_frame"),
        ("WIN_END", "windows_begin_and_end_at_their_ticks_of_each_frame"),
        ("FRAME", "a_frame_made_shorter_than_what_has_passed_of_it_ends_at_the_next_tick"),
        ("FRAME_COUNT", "frame_count_counts_frames_and_wraps_at_32_bits"),
    ] {
        add(TIMERS, register, test);
    }
    for (register, test) in [
        ("CTRL", "once_locked_ctrl_is_read_only_until_reset_and_the_tables_stay_writable"),
        ("STATUS", "viol_is_status0_and_ctrl1_and_is_a_level"),
        ("VIOL_ADDR", "a_long_write_lands_in_the_unprotected_pages_and_latches_the_first_protected_one"),
        ("VIOL_INFO", "a_long_write_lands_in_the_unprotected_pages_and_latches_the_first_protected_one"),
        ("ERR_ADDR", "the_next_read_that_covers_the_armed_word_is_an_error_once"),
        ("ERR_INFO", "a_zero_refresh_divisor_keeps_its_error_whatever_is_cleared"),
        ("INJECT", "all_ones_disarm_and_a_second_address_replaces_the_first"),
    ] {
        add(("cpiom-sdram-reg", BOARD), register, test);
    }
    add(("cpiom-sdram-raf", BOARD), "RAF", "a_zero_refresh_divisor_keeps_its_error_whatever_is_cleared");
    add(("cpiom-sdram-pcode", BOARD), "CODE", "every_page_can_be_protected_alone_and_all_together");
    add(("cpiom-sdram-pdata", BOARD), "DATA", "every_page_can_be_protected_alone_and_all_together");
    list
}

#[test]
fn every_register_of_the_data_sheet_has_a_test_of_its_behaviour() {
    let tested = tested();
    for (region, name, file, test) in &tested {
        assert!(
            file.contains(&format!("#[test]\nfn {test}()")),
            "{region} {name}: there is no test '{test}'"
        );
    }
    let covered: BTreeSet<(&str, &str)> =
        tested.iter().map(|(region, name, ..)| (*region, name.as_str())).collect();
    let sheet = sheet();
    let told: BTreeSet<(&str, &str)> =
        sheet.iter().flat_map(|t| t.rows.iter().map(|row| (t.region.as_str(), row.name.as_str()))).collect();
    assert_eq!(covered, told);
}
