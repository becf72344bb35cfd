//! What must work while something is killed.

mod chaos;
mod drain;
mod kill;
