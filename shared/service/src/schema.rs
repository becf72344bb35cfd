//! States the version of the tables: the number of the newest migration of this release.
//!
//! The persister migrates the tables to this version, and is upgraded first; api reads tables of this version or a
//! later one. Later versions only add, unless the table `schema_compatibility` says otherwise: programs that know only
//! versions below its `minimum` must refuse to work.

/// Settings of PostgreSQL's planner for every session. Tables are read by their indexes, in the order in which a
/// statement names them, whatever statistics the planner has. Without statistics, as on a new installation, it would
/// read a whole table for a row. Switched-off methods are still used if there is no other way.
pub const PLANNER: [(&str, &str); 8] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_hashagg", "off"),
    ("enable_sort", "off"),
    ("join_collapse_limit", "1"),
    ("from_collapse_limit", "1"),
    // Switched-off methods have a huge estimated cost, for which PostgreSQL would compile the statement.
    ("jit", "off"),
];

/// The schema version of this release. The persister's build compares it with the migrations.
pub const VERSION: i64 = 11;
