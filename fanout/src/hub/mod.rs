//! Who follows what on this node: channels with their followers and recent events, and the people
//! who are in rooms here.

pub(crate) mod access;
pub(crate) mod channel;
mod delivery_metrics;
pub(crate) mod presence;
pub(crate) mod presence_map;
pub(crate) mod registry;
pub(crate) mod ring;
pub(crate) mod ring_budget;
pub(crate) mod subscribe;
mod subscribers;
