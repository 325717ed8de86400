//! `isa-i8259`: Intel's programmable interrupt controller, alone or as a pair, with ELCR.
//!
//! One chip has eight inputs; on a PC-like board the second one's output is the first one's input 2. ELCR (ports 0x4d0
//! and 0x4d1 in EISA) says which inputs are level-triggered, in place of ICW1's LTIM bit, which
//! chips with an ELCR ignore. It is not an APIC, and its 8080 mode is not modelled. In three places it does what QEMU's
//! was seen to do and not what the datasheet says: an edge stays requested when its line falls before the acknowledge,
//! in special fully nested mode an interrupt of the slave blocks nothing on the master, and a non-specific end of interrupt in special mask
//! mode ends masked interrupts too.
//! (Intel 8259A datasheet; names of the command words are the datasheet's.)

use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, Effects, IrqLine, QtreeDevice, Reset};

/// The input of a first chip that the second one's output is wired to.
const CASCADE: u8 = 2;

/// One chip.
#[derive(Debug)]
pub struct I8259 {
    base: u16,
    elcr_port: u16,
    elcr_mask: u8,
    master: bool,
    inputs: Vec<IrqLine>,
    output: IrqLine,
    cell: DeviceCell<State>,
}

/// Which command word the data port takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expects {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

#[derive(Debug, Default)]
struct State {
    /// Levels of the inputs.
    levels: u8,
    /// Interrupt request, in-service and mask registers.
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    /// The input with the highest priority.
    top: u8,
    vector: u8,
    expects: Expects,
    single: bool,
    wants_icw4: bool,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    special_nested: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
}

impl State {
    /// The set bit with the highest priority, as its distance from the top one.
    fn priority(&self, bits: u8) -> Option<u8> {
        let rotated = bits.rotate_right(u32::from(self.top & 7));
        (bits != 0).then(|| rotated.trailing_zeros() as u8)
    }

    fn is_level(&self, input: u8) -> bool {
        self.elcr >> input & 1 != 0
    }

    /// The input to serve now, if any.
    fn pending(&self, master: bool) -> Option<u8> {
        let request = self.priority(self.irr & !self.imr)?;
        let mut serving = self.isr;
        if self.special_mask {
            serving &= !self.imr;
        }
        if self.special_nested && master {
            serving &= !(1 << CASCADE);
        }
        let blocked = self.priority(serving).is_some_and(|serving| serving <= request);
        (!blocked).then_some((request + self.top) & 7)
    }

    fn acknowledge(&mut self, input: u8) {
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.top = (input + 1) & 7;
            }
        } else {
            self.isr |= 1 << input;
        }
        if !self.is_level(input) {
            self.irr &= !(1 << input);
        }
    }

    fn set_input(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        if level {
            if self.is_level(input) || self.levels & bit == 0 {
                self.irr |= bit;
            }
            self.levels |= bit;
        } else {
            if self.is_level(input) {
                self.irr &= !bit;
            }
            self.levels &= !bit;
        }
    }

    /// ICW1 starts the initialisation sequence.
    fn initialise(&mut self, word: u8) {
        *self = State {
            irr: self.irr & self.elcr,
            elcr: self.elcr,
            expects: Expects::Icw2,
            wants_icw4: word & 1 != 0,
            single: word & 2 != 0,
            ..State::default()
        };
    }

    /// OCW2; returns whether the output may change by it.
    fn end_of_interrupt(&mut self, word: u8) -> bool {
        let (command, input) = (word >> 5, word & 7);
        match command {
            0 | 4 => {
                self.rotate_on_auto_eoi = command == 4;
                return false;
            }
            1 | 5 => {
                let Some(priority) = self.priority(self.isr) else { return false };
                let served = (priority + self.top) & 7;
                self.isr &= !(1 << served);
                if command == 5 {
                    self.top = (served + 1) & 7;
                }
            }
            3 | 7 => {
                self.isr &= !(1 << input);
                if command == 7 {
                    self.top = (input + 1) & 7;
                }
            }
            6 => self.top = (input + 1) & 7,
            _ => return false,
        }
        true
    }

    /// Returns whether the output may change by it.
    fn write_command(&mut self, word: u8) -> bool {
        if word & 0x10 != 0 {
            self.initialise(word);
            true
        } else if word & 8 != 0 {
            self.poll |= word & 4 != 0;
            if word & 2 != 0 {
                self.read_isr = word & 1 != 0;
            }
            if word & 0x40 != 0 {
                self.special_mask = word & 0x20 != 0;
            }
            false
        } else {
            self.end_of_interrupt(word)
        }
    }

    /// Returns whether the output may change by it.
    fn write_data(&mut self, word: u8) -> bool {
        let mask = self.expects == Expects::Mask;
        let after_icw3 = if self.wants_icw4 { Expects::Icw4 } else { Expects::Mask };
        self.expects = match self.expects {
            Expects::Mask => {
                self.imr = word;
                Expects::Mask
            }
            Expects::Icw2 => {
                self.vector = word & 0xf8;
                if self.single { after_icw3 } else { Expects::Icw3 }
            }
            Expects::Icw3 => after_icw3,
            Expects::Icw4 => {
                self.special_nested = word & 0x10 != 0;
                self.auto_eoi = word & 2 != 0;
                Expects::Mask
            }
        };
        mask
    }
}

impl I8259 {
    /// A chip at two ports from `base`, with its ELCR at `elcr_port`, of which the bits in `elcr_mask` can be written.
    pub fn new(base: u16, elcr_port: u16, elcr_mask: u8, master: bool) -> Arc<I8259> {
        let inputs = (0..8).map(|n| IrqLine::new(format!("i8259@{base:#x}.in[{n}]"))).collect();
        let chip = Arc::new(I8259 {
            base,
            elcr_port,
            elcr_mask,
            master,
            inputs,
            output: IrqLine::new(format!("i8259@{base:#x}.out")),
            cell: DeviceCell::new(State::default()),
        });
        for (n, line) in chip.inputs.iter().enumerate() {
            let weak = Arc::downgrade(&chip);
            line.connect(move |level| {
                if let Some(chip) = weak.upgrade() {
                    chip.with(|state| (state.set_input(n as u8, level), true));
                }
            });
        }
        chip
    }

    /// The two chips of a PC, the second one's output wired to the first one's input 2: (first, second).
    pub fn pair() -> (Arc<I8259>, Arc<I8259>) {
        let master = I8259::new(0x20, 0x4d0, 0xf8, true);
        let slave = I8259::new(0xa0, 0x4d1, 0xde, false);
        if let Some(cascade) = master.inputs.get(usize::from(CASCADE)) {
            slave.output.connect_to(cascade);
        }
        (master, slave)
    }

    /// Changes the state; where `f` says that the output may change by it, the output is driven.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> (R, bool)) -> R {
        self.cell.with(|state, effects: &mut Effects| {
            let (result, drives) = f(state);
            if drives {
                effects.drive(&self.output, state.pending(self.master).is_some());
            }
            result
        })
    }

    /// The eight inputs.
    pub fn inputs(&self) -> &[IrqLine] {
        &self.inputs
    }

    /// High while an interrupt is to be served.
    pub fn output(&self) -> &IrqLine {
        &self.output
    }

    /// The interrupt acknowledge cycle of a pair: the vector of the interrupt to serve. With none pending it is input
    /// 7's, without in-service bit: a spurious interrupt.
    pub fn acknowledge(master: &I8259, slave: &I8259) -> u8 {
        let (input, vector) = master.with(|state| {
            let input = state.pending(true);
            if let Some(input) = input {
                state.acknowledge(input);
            }
            ((input, state.vector + input.unwrap_or(7)), input.is_some())
        });
        if input != Some(CASCADE) {
            return vector;
        }
        slave.with(|state| {
            let input = state.pending(false);
            if let Some(input) = input {
                state.acknowledge(input);
            }
            (state.vector + input.unwrap_or(7), input.is_some())
        })
    }

    /// Command and data port.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pic", 2, Ports(self.clone())).owner(owner)
    }

    /// The edge/level control register.
    pub fn elcr_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("elcr", 1, Elcr(self.clone())).owner(owner)
    }

    /// First port.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Port of the edge/level control register.
    pub fn elcr_port(&self) -> u16 {
        self.elcr_port
    }

    /// What `info pic` says, as QEMU writes it.
    pub fn describe(&self) -> String {
        self.cell.peek(|state| {
            format!(
                "pic{}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}\n",
                u8::from(!self.master),
                state.irr,
                state.imr,
                state.isr,
                state.top,
                state.vector,
                u8::from(state.read_isr),
                state.elcr,
                u8::from(state.special_nested),
            )
        })
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("isa-i8259")
            .gpio_in("", 8)
            .gpio_out("", 1)
            .number("iobase", self.base.into())
            .number("elcr_addr", self.elcr_port.into())
            .number("elcr_mask", self.elcr_mask.into())
            .flag("master", self.master)
    }
}

impl Reset for I8259 {
    fn reset(&self) {
        // The inputs are driven by others, so their levels are what they are.
        self.with(|state| {
            *state = State { levels: state.levels, ..State::default() };
            ((), true)
        });
    }
}

struct Ports(Arc<I8259>);

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let chip = &self.0;
        Ok(chip.with(|state| {
            if state.poll {
                state.poll = false;
                let input = state.pending(chip.master);
                if let Some(input) = input {
                    state.acknowledge(input);
                }
                return (input.map_or(0, |input| 0x80 | input).into(), input.is_some());
            }
            let value = match (access.offset(), state.read_isr) {
                (0, true) => state.isr,
                (0, false) => state.irr,
                // Pieces of a wide access beyond the data port are the data port.
                _ => state.imr,
            };
            (value.into(), false)
        }))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.with(|state| {
            let word = value as u8;
            ((), if access.offset() == 0 { state.write_command(word) } else { state.write_data(word) })
        });
        Ok(())
    }
}

struct Elcr(Arc<I8259>);

impl MmioOps for Elcr {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.cell.peek(|state| state.elcr.into()))
    }

    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.cell.with(|state, _| state.elcr = value as u8 & self.0.elcr_mask);
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.cell.peek(|state| state.elcr.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(chip: &I8259, word: u8) {
        chip.with(|state| ((), state.write_command(word)));
    }

    fn data(chip: &I8259, word: u8) {
        chip.with(|state| ((), state.write_data(word)));
    }

    /// As PC firmware does: ICW1 to ICW4, vectors 0x08 and 0x70, everything unmasked.
    fn initialised() -> (Arc<I8259>, Arc<I8259>) {
        let (master, slave) = I8259::pair();
        for (chip, words) in [(&master, [0x08, 0x04, 0x01, 0x00]), (&slave, [0x70, 0x02, 0x01, 0x00])] {
            command(chip, 0x11);
            words.into_iter().for_each(|word| data(chip, word));
        }
        (master, slave)
    }

    #[test]
    fn an_edge_is_served_once_and_blocks_lower_ones_until_its_end() {
        let (master, slave) = initialised();
        master.inputs()[4].raise();
        master.inputs()[1].raise();
        assert!(master.output().level());
        assert_eq!(I8259::acknowledge(&master, &slave), 0x09);
        assert!(!master.output().level(), "input 4 waits for the end of input 1");
        command(&master, 0x20);
        assert!(master.output().level());
        assert_eq!(I8259::acknowledge(&master, &slave), 0x0c);
        command(&master, 0x20);
        assert!(!master.output().level(), "a line that stays high is no new edge");
    }

    #[test]
    fn the_second_chip_is_served_through_the_first() {
        let (master, slave) = initialised();
        slave.inputs()[0].raise();
        assert!(master.output().level());
        assert_eq!(I8259::acknowledge(&master, &slave), 0x70);
        assert_eq!((master.cell.peek(|s| s.isr), slave.cell.peek(|s| s.isr)), (4, 1));
    }

    #[test]
    fn a_level_input_asks_again_until_it_is_low() {
        let (master, slave) = initialised();
        slave.cell.with(|state, _| state.elcr = 0x80);
        slave.inputs()[7].raise();
        for _ in 0..2 {
            assert_eq!(I8259::acknowledge(&master, &slave), 0x77);
            command(&slave, 0x20);
            command(&master, 0x20);
        }
        slave.inputs()[7].lower();
        assert!(!slave.output().level());
    }

    #[test]
    fn masks_and_rotation_decide_who_is_first() {
        let (master, slave) = initialised();
        data(&master, 0x02);
        master.inputs()[1].raise();
        assert!(!master.output().level());
        command(&master, 0xc3);
        master.inputs()[3].raise();
        master.inputs()[4].raise();
        assert_eq!(
            I8259::acknowledge(&master, &slave),
            0x0c,
            "after 3 was made the lowest, 4 is the highest"
        );
    }

    #[test]
    fn with_nothing_pending_the_vector_is_spurious() {
        let (master, slave) = initialised();
        assert_eq!(I8259::acknowledge(&master, &slave), 0x0f);
        assert_eq!(master.cell.peek(|s| s.isr), 0);
    }

    /// In-service bits of both chips.
    fn in_service(pair: &(Arc<I8259>, Arc<I8259>)) -> (u8, u8) {
        (pair.0.cell.peek(|s| s.isr), pair.1.cell.peek(|s| s.isr))
    }

    /// With these ICW4 bits on the first chip.
    fn initialised_with(icw4: u8) -> (Arc<I8259>, Arc<I8259>) {
        let pair = initialised();
        command(&pair.0, 0x11);
        [0x08, 0x04, icw4, 0x00].into_iter().for_each(|word| data(&pair.0, word));
        pair
    }

    #[test]
    fn special_mask_mode_lets_lower_interrupts_in_while_a_masked_one_is_served() {
        let pair = initialised();
        let (master, slave) = &pair;
        master.inputs()[3].raise();
        assert_eq!(I8259::acknowledge(master, slave), 0x0b);
        data(master, 0x08);
        master.inputs()[5].raise();
        assert!(!master.output().level());
        command(master, 0x68);
        assert_eq!((I8259::acknowledge(master, slave), in_service(&pair).0), (0x0d, 0x28));
        command(master, 0x63);
        assert_eq!(in_service(&pair).0, 0x20, "the specific end of 3");
        command(master, 0x48);
        command(master, 0x20);
        assert_eq!(in_service(&pair).0, 0);
    }

    #[test]
    fn a_poll_is_an_acknowledge_cycle_of_one_chip() {
        let pair = initialised();
        let (master, slave) = &pair;
        let poll = |chip: &Arc<I8259>| {
            command(chip, 0x0c);
            let memory = flatview::Memory::new(flatview::Endianness::Little);
            let ports = memory.add(chip.region(&Owner::object("/machine"))).unwrap();
            memory.map(memory.system(), 0, ports).unwrap();
            let mut bytes = [0; 2];
            memory.memory_space().read(0, &mut bytes[..1]).unwrap();
            memory.memory_space().read(1, &mut bytes[1..]).unwrap();
            bytes[0]
        };
        assert_eq!(poll(master), 0, "nothing is pending");
        slave.inputs()[2].raise();
        assert_eq!((poll(master), in_service(&pair)), (0x82, (4, 0)));
        assert_eq!((poll(slave), in_service(&pair)), (0x82, (4, 4)));
    }

    #[test]
    fn automatic_ends_leave_nothing_in_service_and_can_rotate() {
        let pair = initialised_with(0x03);
        let (master, slave) = &pair;
        master.inputs()[4].raise();
        assert_eq!((I8259::acknowledge(master, slave), in_service(&pair).0), (0x0c, 0));
        command(master, 0x80);
        master.inputs()[6].pulse();
        assert_eq!(I8259::acknowledge(master, slave), 0x0e);
        // Now 7 is the first and 6 the last; each that is served becomes the last.
        [1, 6, 7].into_iter().for_each(|n: usize| master.inputs()[n].pulse());
        let served: Vec<u8> = (0..3).map(|_| I8259::acknowledge(master, slave)).collect();
        assert_eq!((served, in_service(&pair).0), (vec![0x0f, 0x09, 0x0e], 0));
    }

    #[test]
    fn an_end_with_rotation_makes_the_served_one_the_last() {
        let (master, slave) = initialised();
        for word in [0xa0, 0xe3] {
            master.inputs()[3].pulse();
            assert_eq!(I8259::acknowledge(&master, &slave), 0x0b);
            command(&master, word);
            master.inputs()[3].pulse();
            master.inputs()[4].pulse();
            assert_eq!(I8259::acknowledge(&master, &slave), 0x0c, "{word:#x}");
            command(&master, 0x20);
            assert_eq!(I8259::acknowledge(&master, &slave), 0x0b);
            command(&master, 0x20);
        }
    }

    #[test]
    fn fully_nested_the_second_chips_higher_interrupts_wait_and_specially_nested_they_do_not() {
        for (icw4, vector) in [(0x01, 0x0f), (0x11, 0x70)] {
            let pair = initialised_with(icw4);
            let (master, slave) = &pair;
            slave.inputs()[2].raise();
            assert_eq!((I8259::acknowledge(master, slave), in_service(&pair)), (0x72, (4, 4)));
            slave.inputs()[0].raise();
            assert_eq!(I8259::acknowledge(master, slave), vector, "{icw4:#x}");
        }
    }

    #[test]
    fn info_pic_is_qemus_line() {
        let (master, slave) = initialised();
        data(&master, 0xb8);
        master.inputs()[6].raise();
        slave.cell.with(|state, _| state.elcr = 0x0c);
        assert_eq!(
            master.describe() + &slave.describe(),
            "pic0: irr=40 imr=b8 isr=00 hprio=0 irq_base=08 rr_sel=0 elcr=00 fnm=0\n\
             pic1: irr=00 imr=00 isr=00 hprio=0 irq_base=70 rr_sel=0 elcr=0c fnm=0\n"
        );
    }

    #[test]
    fn an_interrupt_of_the_second_chip_that_goes_away_is_its_spurious_one() {
        let pair = initialised();
        let (master, slave) = &pair;
        slave.cell.with(|state, _| state.elcr = 4);
        slave.inputs()[2].raise();
        // The first chip has latched the edge of its input 2.
        slave.inputs()[2].lower();
        assert_eq!((I8259::acknowledge(master, slave), in_service(&pair)), (0x77, (4, 0)));
    }
}
