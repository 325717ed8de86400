//! One region of the tree.

use std::sync::Arc;

use super::children::Children;
use super::{Attrs, Body, Kind, RegionType};

/// One region. Every region has one: what few have is in [`Family`].
pub(crate) struct Record {
    pub attrs: Attrs,
    pub body: Arc<Body>,
    family: Option<Box<Family>>,
    /// How many show it that are live: containers, aliases, and views that are rendered from it.
    pub(super) shown_by: u32,
    /// Where it stands among its target's aliases, if it is one.
    pub(super) place: u32,
}

const _: () = assert!(size_of::<Record>() == 72);

/// What refers to a region: few have any of it.
#[derive(Default)]
pub(super) struct Family {
    pub children: Children,
    /// The aliases that have it as target: first those that are live, then the others.
    pub aliases: Vec<u32>,
    /// How many of `aliases` are live.
    pub live_aliases: u32,
    /// How many address spaces have it as their root.
    pub spaces: u32,
    /// Whether a view is rendered from it.
    pub is_root: bool,
}

impl Record {
    pub fn new(attrs: Attrs, body: Arc<Body>) -> Self {
        Self { attrs, body, family: None, shown_by: 0, place: 0 }
    }

    /// Changes what refers to it.
    pub(super) fn change_family<R>(&mut self, f: impl FnOnce(&mut Family) -> R) -> R {
        let family = self.family.get_or_insert_default();
        let result = f(family);
        if family.children.is_empty() && family.aliases.is_empty() && family.spaces == 0 && !family.is_root {
            self.family = None;
        }
        result
    }

    /// Whether a view is rendered from it, or from something that shows it.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.shown_by > 0
    }

    /// Whether a view is rendered from it.
    #[inline]
    pub fn is_root(&self) -> bool {
        self.family.as_ref().is_some_and(|f| f.is_root)
    }

    /// What is mapped in it, if anything is.
    #[inline]
    pub fn children(&self) -> Option<&Children> {
        self.family.as_ref().map(|f| &f.children).filter(|c| !c.is_empty())
    }

    /// The aliases that have it as target: first those that are live, then the others.
    #[inline]
    pub fn aliases(&self) -> &[u32] {
        self.family.as_ref().map_or(&[], |f| &f.aliases)
    }

    /// The live aliases that have it as target.
    #[inline]
    pub fn live_aliases(&self) -> &[u32] {
        let live = self.family.as_ref().map_or(0, |f| f.live_aliases);
        self.aliases().get(..live as usize).unwrap_or_default()
    }

    /// How many address spaces have it as their root.
    pub fn spaces(&self) -> u32 {
        self.family.as_ref().map_or(0, |f| f.spaces)
    }

    /// What `info mtree` calls it.
    pub fn kind(&self) -> RegionType {
        match self.body.kind {
            Kind::Ram if self.attrs.readonly() => RegionType::Rom,
            Kind::Ram => RegionType::Ram,
            Kind::RamDevice => RegionType::Ramd,
            Kind::RomDevice if self.attrs.romd() => RegionType::Romd,
            Kind::Sketch(kind) => kind,
            Kind::RomDevice | Kind::Io | Kind::Iommu | Kind::Reservation | Kind::Container | Kind::Alias => {
                RegionType::Io
            }
        }
    }
}
