//! Who accesses, and how.

/// The attributes of a transaction (QEMU: `MemTxAttrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MemTxAttrs {
    /// Nothing is known about the initiator. Not the same as all other fields being off.
    pub unspecified: bool,
    /// The access is a secure one.
    pub secure: bool,
    /// The access comes from user mode.
    pub user: bool,
    /// The access is for RAM (or ROM) only: anything else on the bus, ROM devices included, is an access error.
    pub memory: bool,
    /// Which bus master asks, for example a PCI requester id.
    pub requester_id: u16,
}

impl MemTxAttrs {
    /// Nothing is known (QEMU: `MEMTXATTRS_UNSPECIFIED`).
    pub const UNSPECIFIED: Self =
        Self { unspecified: true, secure: false, user: false, memory: false, requester_id: 0 };

    /// Everything off, to set fields of.
    #[must_use]
    pub const fn new() -> Self {
        Self { unspecified: false, ..Self::UNSPECIFIED }
    }

    /// With [`secure`](Self::secure) set.
    #[must_use]
    pub const fn with_secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// With [`user`](Self::user) set.
    #[must_use]
    pub const fn with_user(mut self, user: bool) -> Self {
        self.user = user;
        self
    }

    /// With [`memory`](Self::memory) set.
    #[must_use]
    pub const fn with_memory(mut self, memory: bool) -> Self {
        self.memory = memory;
        self
    }

    /// With a requester.
    #[must_use]
    pub const fn with_requester(mut self, id: u16) -> Self {
        self.requester_id = id;
        self
    }
}

impl Default for MemTxAttrs {
    fn default() -> Self {
        Self::UNSPECIFIED
    }
}
