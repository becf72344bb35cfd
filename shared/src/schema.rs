//! The version of the tables: the number of the newest migration of this release.
//!
//! The persister brings the tables to it, and is upgraded first; api reads tables of this version or a
//! later one. Later versions only add, unless the table `schema_compatibility` says otherwise: programs
//! that know only versions below its `minimum` must not work.

/// The schema version of this release. The persister's build compares it with the migrations.
pub const VERSION: i64 = 6;
