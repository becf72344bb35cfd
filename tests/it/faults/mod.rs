//! What must work while something is killed, or its links are cut.

mod chaos;
mod cut;
mod deployed;
mod down;
mod drain;
mod kill;
mod pause;
mod shard;
mod three;
