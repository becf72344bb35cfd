//! States the version of the tables: the number of the newest migration of this release.
//!
//! The persister brings the tables to it, and is upgraded first; api reads tables of this version or a
//! later one. Later versions only add, unless the table `schema_compatibility` says otherwise: programs
//! that know only versions below its `minimum` must not work.

/// Settings of PostgreSQL's planner, of every session. Tables are read by their indexes, in the order in which a
/// statement names them, whatever the planner knows of the tables: where it knows nothing, as on a new installation, it
/// would read a whole one for a row. What is switched off is still done where there is no other way.
pub const PLANNER: [(&str, &str); 8] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_hashagg", "off"),
    ("enable_sort", "off"),
    ("join_collapse_limit", "1"),
    ("from_collapse_limit", "1"),
    // What is switched off counts as dear: compiling a statement would seem to pay.
    ("jit", "off"),
];

/// The schema version of this release. The persister's build compares it with the migrations.
pub const VERSION: i64 = 9;
