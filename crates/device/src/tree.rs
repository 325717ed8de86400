//! The texts of `info qtree` and `info qom-tree`, as data.
//!
//! These are pictures of a machine's devices made when somebody asks; no device lives in them. What must always hold:
//! their [`Display`](fmt::Display) is what QEMU 7.2 prints for the same devices, but for the line `not modelled yet`
//! under a device that only logs its accesses.

use std::fmt;

/// A bus with the devices on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QtreeBus {
    /// The bus's name, such as `isa.0`.
    pub name: String,
    /// The bus's type, such as `ISA`.
    pub kind: String,
    /// Devices as printed: the last one plugged comes first.
    pub devices: Vec<QtreeDevice>,
}

/// A device on a bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QtreeDevice {
    /// The device's type, such as `isa-serial`.
    pub kind: String,
    /// The identifier the user gave it, or nothing.
    pub id: String,
    /// What is printed below it: GPIO lines, properties, ranges; without indentation.
    pub lines: Vec<String>,
    /// The buses it provides.
    pub buses: Vec<QtreeBus>,
    /// Whether accesses to it are only logged (`-d unimp`).
    pub unmodelled: bool,
}

/// How a device is written down: each call adds one printed line.
impl QtreeDevice {
    /// A device of this type, with nothing below it.
    pub fn new(kind: impl Into<String>) -> QtreeDevice {
        QtreeDevice { kind: kind.into(), ..QtreeDevice::default() }
    }

    /// Marks the device as one whose accesses are only logged.
    pub fn unmodelled(mut self) -> QtreeDevice {
        self.unmodelled = true;
        self
    }

    /// Adds a line as it is printed.
    pub fn line(mut self, text: impl Into<String>) -> QtreeDevice {
        self.lines.push(text.into());
        self
    }

    /// Adds `gpio-in "NAME" COUNT`.
    pub fn gpio_in(self, name: &str, count: usize) -> QtreeDevice {
        self.line(format!("gpio-in \"{name}\" {count}"))
    }

    /// Adds `gpio-out "NAME" COUNT`.
    pub fn gpio_out(self, name: &str, count: usize) -> QtreeDevice {
        self.line(format!("gpio-out \"{name}\" {count}"))
    }

    /// Adds a number in QEMU's two notations: `name = 16 (0x10)`.
    pub fn number(self, name: &str, value: u64) -> QtreeDevice {
        self.line(format!("{name} = {value} ({value:#x})"))
    }

    /// Adds a text in quotes.
    pub fn text(self, name: &str, value: &str) -> QtreeDevice {
        self.line(format!("{name} = \"{value}\""))
    }

    /// Adds `true` or `false`.
    pub fn flag(self, name: &str, value: bool) -> QtreeDevice {
        self.line(format!("{name} = {value}"))
    }

    /// Adds a value that is printed bare.
    pub fn bare(self, name: &str, value: &str) -> QtreeDevice {
        self.line(format!("{name} = {value}"))
    }

    /// Adds a bus below the device.
    pub fn bus(mut self, bus: QtreeBus) -> QtreeDevice {
        self.buses.push(bus);
        self
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        writeln!(f, "{:indent$}dev: {}, id \"{}\"", "", self.kind, self.id)?;
        let inner = indent + 2;
        if self.unmodelled {
            writeln!(f, "{:inner$}not modelled yet: accesses are logged by -d unimp", "")?;
        }
        for line in &self.lines {
            writeln!(f, "{:inner$}{line}", "")?;
        }
        for bus in &self.buses {
            bus.write(f, inner)?;
        }
        Ok(())
    }
}

impl QtreeBus {
    /// A bus without devices.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> QtreeBus {
        QtreeBus { name: name.into(), kind: kind.into(), devices: Vec::new() }
    }

    /// Plugs a device: it is printed before those plugged earlier.
    pub fn plug(&mut self, device: QtreeDevice) {
        self.devices.insert(0, device);
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        writeln!(f, "{:indent$}bus: {}", "", self.name)?;
        let inner = indent + 2;
        writeln!(f, "{:inner$}type {}", "", self.kind)?;
        self.devices.iter().try_for_each(|device| device.write(f, inner))
    }
}

impl fmt::Display for QtreeBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// The value of a property of the object tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QomValue {
    /// A number that is not negative.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A text, or a path; empty for a link that leads nowhere.
    Text(String),
}

/// A property of a node of the object tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QomProperty {
    /// Its name, such as `addr`.
    pub name: &'static str,
    /// Its type, as `qom-list` names it, such as `uint64`.
    pub kind: &'static str,
    /// Its value when the picture was made.
    pub value: QomValue,
}

/// A node of the object tree: a name, a type and what it contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QomNode {
    /// The name inside its parent, without a slash; the root is `machine`.
    pub name: String,
    /// The type's name, such as `memory-region`.
    pub kind: String,
    /// The children, in any order; they are printed sorted by name.
    pub children: Vec<QomNode>,
    /// What `qom-get` can tell of it, beside its type and children.
    pub properties: Vec<QomProperty>,
}

impl QomNode {
    /// A node without children.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> QomNode {
        QomNode { name: name.into(), kind: kind.into(), ..QomNode::default() }
    }

    /// The node at an absolute path such as `/machine/raven`.
    pub fn find(&self, path: &str) -> Option<&QomNode> {
        let mut parts = path.strip_prefix('/')?.split('/');
        if parts.next()? != self.name {
            return None;
        }
        parts.try_fold(self, |node, part| node.children.iter().find(|child| child.name == part))
    }

    /// The node at an absolute path; the path's missing nodes are made, as containers.
    pub fn entry(&mut self, path: &str) -> &mut QomNode {
        let mut node = self;
        for part in path.trim_start_matches('/').split('/').skip(1).filter(|part| !part.is_empty()) {
            let at = match node.children.iter().position(|child| child.name == part) {
                Some(at) => at,
                None => {
                    node.children.push(QomNode::new(part, "container"));
                    node.children.len() - 1
                }
            };
            // `at` is the place of a child that is there.
            #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
            let child = &mut node.children[at];
            node = child;
        }
        node
    }

    /// Adds a child called `NAME[N]` with the first free number, as QEMU numbers regions and lines; returns its name.
    pub fn add_numbered(&mut self, name: &str, kind: &str) -> String {
        let number = (0..).find(|n| !self.children.iter().any(|child| child.name == format!("{name}[{n}]")));
        let name = format!("{name}[{}]", number.unwrap_or(0));
        self.children.push(QomNode::new(name.clone(), kind));
        name
    }

    /// All paths of the tree, this node's first.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut open = vec![(String::new(), self)];
        while let Some((parent, node)) = open.pop() {
            let path = format!("{parent}/{}", node.name);
            open.extend(node.children.iter().rev().map(|child| (path.clone(), child)));
            paths.push(path);
        }
        paths
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        writeln!(f, "{:indent$}/{} ({})", "", self.name, self.kind)?;
        let mut children: Vec<&QomNode> = self.children.iter().collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        children.into_iter().try_for_each(|child| child.write(f, indent + 2))
    }
}

impl fmt::Display for QomNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_prints_as_info_qtree_does() {
        let mut isa = QtreeBus::new("isa.0", "ISA");
        isa.plug(QtreeDevice::new("rs6000-mc").number("ram-size", 134_217_728).flag("auto-configure", true));
        isa.plug(QtreeDevice::new("pc-testdev"));
        let mut root = QtreeBus::new("main-system-bus", "System");
        root.plug(QtreeDevice::new("bridge").gpio_out("", 1).text("bios-name", "x").bus(isa));
        assert_eq!(
            root.to_string(),
            "bus: main-system-bus\n  type System\n  dev: bridge, id \"\"\n    gpio-out \"\" 1\n    bios-name = \"x\"\n    \
             bus: isa.0\n      type ISA\n      dev: pc-testdev, id \"\"\n      dev: rs6000-mc, id \"\"\n        \
             ram-size = 134217728 (0x8000000)\n        auto-configure = true\n"
        );
    }

    #[test]
    fn nodes_are_found_numbered_and_printed_sorted() {
        let mut root = QomNode::new("machine", "40p-machine");
        root.entry("/machine/raven").kind = "raven-pcihost".into();
        root.entry("/machine/unattached/device[10]").kind = "i8257".into();
        let device = root.entry("/machine/unattached/device[1]");
        device.kind = "or-irq".into();
        assert_eq!(device.add_numbered("unnamed-gpio-in", "irq"), "unnamed-gpio-in[0]");
        assert_eq!(device.add_numbered("unnamed-gpio-in", "irq"), "unnamed-gpio-in[1]");
        assert_eq!(
            root.to_string(),
            "/machine (40p-machine)\n  /raven (raven-pcihost)\n  /unattached (container)\n    /device[10] (i8257)\n    \
             /device[1] (or-irq)\n      /unnamed-gpio-in[0] (irq)\n      /unnamed-gpio-in[1] (irq)\n"
        );
        assert_eq!(root.find("/machine/raven").map(|node| node.kind.as_str()), Some("raven-pcihost"));
        assert!(root.find("/machine/nobody").is_none());
        assert!(root.paths().contains(&"/machine/unattached/device[1]/unnamed-gpio-in[1]".to_owned()));
    }
}
