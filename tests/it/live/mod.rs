//! What sockets hear while things happen: who comes and goes, whose node dies, what ends a right, what concerns a
//! person, and up to where they have all there is.

mod closing;
pub(crate) mod crowd;
mod dead;
mod people;
mod positions;
mod presence;
mod removal;
mod wide;
mod write_end;
