//! What the command, the tests and the benches use beyond the public API. It can change in every version.

/// Whorl's contenders in the benches.
pub mod contenders {
    pub use crate::contenders::*;
}

/// The layer `os`.
pub mod os {
    pub use crate::os::*;
}

/// The layer `shm`.
pub mod shm {
    pub use crate::shm::*;
}

/// The layer `registry`.
pub mod registry {
    pub use crate::registry::*;
}

/// The layer `channel`.
pub mod channel {
    pub use crate::channel::*;
}

/// The layer `transfer`.
pub mod transfer {
    pub use crate::transfer::*;
}

/// The layer `mailbox_server`.
pub mod mailbox_server {
    pub use crate::mailbox_server::*;
}

/// The layer `discovery`.
pub mod discovery {
    pub use crate::discovery::*;
}
