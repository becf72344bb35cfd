//! Tests the system while processes are killed, paused or stopped, and while their connections are cut.

mod chaos;
mod cut;
mod deployed;
mod down;
mod drain;
mod kill;
mod pause;
mod shard;
mod three;
