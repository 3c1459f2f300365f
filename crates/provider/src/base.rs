//! Ground floor of the provider: words that every other room uses. Nothing here knows another room of the crate.

pub(crate) mod address;
pub(crate) mod attempt;
pub(crate) mod capacity;
pub(crate) mod error;
pub(crate) mod id;
pub(crate) mod index;
pub(crate) mod kind;
pub(crate) mod random;
pub(crate) mod range;
pub(crate) mod setting;
pub(crate) mod slots;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod wake;
pub(crate) mod with;
