//! What must work while something is killed.

mod kill;
