//! Tests pushes to open sockets: joins and leaves, dead nodes, rights that end, events about a user,
//! positions.

mod closing;
pub(crate) mod crowd;
mod dead;
mod people;
mod positions;
mod presence;
mod removal;
mod wide;
mod write_end;
