//! Tests what must work while processes are killed, or their links are cut.

mod chaos;
mod cut;
mod deployed;
mod down;
mod drain;
mod kill;
mod pause;
mod shard;
mod three;
