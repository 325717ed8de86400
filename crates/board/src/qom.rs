//! The object tree: what `info qom-tree`, `qom-list` and `qom-get` tell of a machine.
//!
//! What it is: a picture made when somebody asks, of devices, their lines, objects and all memory regions. A region's
//! properties are QEMU's: `container`, `addr`, `size` and `priority`. What it is not: a way to change anything; and devices have
//! no properties here (`info qtree` prints them).
//!
//! What must hold: a path that is printed leads back to what it was printed for.

use flatview::{RegionId, RegionInfo};
use flatview_device::{QomNode, QomProperty, QomValue};
use std::collections::HashMap;

use crate::Machine;
use crate::memdev;

/// What `[`, `]`, `/` and `\` in a name would mean in a path is hidden, as in QEMU: `\x2f` stands for a slash.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '/' | '[' | ']' | '\\' => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// QEMU's properties of a region. It has 64 bits for the size, so that of a whole address space is one less than it is.
fn properties(region: &RegionInfo, paths: &HashMap<RegionId, String>) -> Vec<QomProperty> {
    let container = region.container.and_then(|id| paths.get(&id));
    let size = u64::try_from(region.size).unwrap_or(u64::MAX);
    properties_of(container, region.addr, size, region.priority)
}

fn properties_of(container: Option<&String>, addr: u64, size: u64, priority: i32) -> Vec<QomProperty> {
    let property = |name, kind, value| QomProperty { name, kind, value };
    vec![
        property("container", "link<memory-region>", QomValue::Text(container.cloned().unwrap_or_default())),
        property("addr", "uint64", QomValue::Unsigned(addr)),
        property("size", "uint64", QomValue::Unsigned(size)),
        property("priority", "uint32", QomValue::Signed(priority.into())),
    ]
}

impl Machine {
    /// The picture for `info qom-tree`: devices, their lines and all memory regions.
    pub fn qom(&self) -> QomNode {
        let [machine, _] = self.qom_trees();
        machine
    }

    /// `/machine` and `/objects`, with all memory regions and their properties.
    fn qom_trees(&self) -> [QomNode; 2] {
        let (mut root, mut objects) = (self.qom_of_devices().clone(), self.object_tree());
        let mut regions = Vec::new();
        let mut paths = HashMap::new();
        for id in self.memory().regions() {
            let Ok(region) = self.memory().region(id) else { continue };
            let place = region.owner.as_ref().or(region.parent.as_ref());
            let path = place.map_or("/machine/unattached", |owner| owner.path());
            // A back end's region is there whether or not it is mapped.
            let name = if path.starts_with("/objects/") {
                format!("{}[0]", escaped(&region.name))
            } else {
                root.entry(path).add_numbered(&escaped(&region.name), "memory-region")
            };
            let path = format!("{path}/{name}");
            paths.insert(id, path.clone());
            regions.push((region, path));
        }
        for (region, path) in regions {
            let tree = if path.starts_with("/objects/") { &mut objects } else { &mut root };
            tree.entry(&path).properties = properties(&region, &paths);
        }
        for memdev in self.objects().memdevs() {
            let id = &memdev.spec.id;
            let node = objects.entry(&format!("/objects/{id}/{}[0]", escaped(id)));
            if node.properties.is_empty() {
                node.properties = properties_of(None, 0, memdev.spec.size, 0);
            }
        }
        for dimm in self.objects().devices() {
            match &dimm.id {
                Some(id) => {
                    let node = root.entry(&format!("/machine/peripheral/{id}"));
                    node.kind = memdev::dimm::DRIVER.to_owned();
                }
                None => {
                    root.entry("/machine/peripheral-anon").add_numbered("device", memdev::dimm::DRIVER);
                }
            }
        }
        [root, objects]
    }

    /// What is at a path, absolute or the end of one that only one object has (QEMU: `object_resolve_path`), with its
    /// absolute path, which is empty for the root of all.
    fn qom_at(&self, path: &str) -> Option<(String, QomNode)> {
        let trees = self.qom_trees();
        let absolute = if path.starts_with('/') {
            path.trim_end_matches('/').to_owned()
        } else {
            let end = format!("/{path}");
            let all = trees.iter().flat_map(QomNode::paths);
            match all.filter(|p| p.ends_with(&end)).collect::<Vec<_>>().as_slice() {
                [only] => only.clone(),
                _ => return None,
            }
        };
        if absolute.is_empty() {
            let mut root = QomNode::new("", "container");
            root.children = trees.into();
            return Some((absolute, root));
        }
        let node = trees.iter().find_map(|tree| tree.find(&absolute)).cloned()?;
        Some((absolute, node))
    }

    /// What `qom-list` lists: name and type of each property and child; `None` if there is no such path.
    pub fn qom_list(&self, path: &str) -> Option<Vec<(String, String)>> {
        let (_, node) = self.qom_at(path)?;
        let mut list = vec![("type".to_owned(), "string".to_owned())];
        list.extend(node.properties.iter().map(|p| (p.name.to_owned(), p.kind.to_owned())));
        let mut children: Vec<_> = node.children.iter().collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        list.extend(children.into_iter().map(|c| (c.name.clone(), format!("child<{}>", c.kind))));
        Some(list)
    }

    /// The value of a property, as `qom-get` gives it.
    ///
    /// # Errors
    /// [`QomError`] in QEMU's words.
    pub fn qom_get(&self, path: &str, property: &str) -> Result<QomValue, QomError> {
        let (path, node) = self.qom_at(path).ok_or_else(|| QomError::NoObject { path: path.to_owned() })?;
        if property == "type" {
            return Ok(QomValue::Text(node.kind));
        }
        if let Some(found) = node.properties.iter().find(|p| p.name == property) {
            return Ok(found.value.clone());
        }
        match node.children.iter().find(|child| child.name == property) {
            Some(child) => Ok(QomValue::Text(format!("{path}/{}", child.name))),
            None => Err(QomError::NoProperty { kind: node.kind, property: property.to_owned() }),
        }
    }
}

/// Why there is no answer of the object tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QomError {
    /// There is no object there, or more than one.
    #[error("Device '{path}' not found")]
    NoObject {
        /// The path as given.
        path: String,
    },
    /// The object has no such property.
    #[error("Property '{kind}.{property}' not found")]
    NoProperty {
        /// The object's type.
        kind: String,
        /// The property as asked for.
        property: String,
    },
}
