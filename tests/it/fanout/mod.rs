//! Tests what sockets are pushed meanwhile: joins and leaves, dead nodes, ended rights, events about a person,
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
