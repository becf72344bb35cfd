//! Parses the log of PostgreSQL's `auto_explain`: each statement with its plan, and the rows that it read.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::PgPool;

/// All runs of one statement.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) runs: u64,
    /// Rows of tables and indexes that the largest run read, including rows that filters removed.
    pub(super) rows: f64,
    /// Duration of the longest run, in milliseconds.
    pub(super) milliseconds: f64,
    /// Faults of the plan: a sequential scan of a large table, or an index scan without the index's first columns.
    pub(super) faults: Vec<String>,
    /// Plan of the run that read most.
    pub(super) plan: Value,
}

/// Columns of each index, in their order.
pub(super) async fn indexes(pool: &PgPool) -> HashMap<String, Vec<String>> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        "SELECT c.relname::text, ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, true)
                                 FROM generate_series(1, i.indnkeyatts) AS n ORDER BY n)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = 'public'::regnamespace",
    )
    .fetch_all(pool)
    .await
    .expect("indexes");
    rows.into_iter().collect()
}

/// The statements of a log by program and text. `large`: the tables that no statement may read whole.
pub(super) fn statements(
    log: &str,
    large: &[&str],
    indexes: &HashMap<String, Vec<String>>,
) -> BTreeMap<(String, String), Statement> {
    let mut found: BTreeMap<(String, String), Statement> = BTreeMap::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((head, _)) = line.split_once("  plan:") else { continue };
        let Some((program, duration)) = head.split_once("|LOG:  duration: ") else { continue };
        if !program.starts_with("roomcast-") {
            continue;
        }
        let mut plan = String::new();
        while let Some(more) = lines.next_if(|line| line.starts_with('\t')) {
            plan.push_str(more);
        }
        let plan: Value = serde_json::from_str(&plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
        let text =
            plan["Query Text"].as_str().expect("a text").split_whitespace().collect::<Vec<_>>().join(" ");
        let milliseconds = duration.trim_end_matches(" ms").trim().parse().expect("a duration");
        let mut read = Read { large, indexes, rows: 0.0, faults: vec![] };
        read.node(&plan["Plan"]);
        let statement = found.entry((program.to_owned(), text)).or_default();
        statement.runs += 1;
        statement.milliseconds = f64::max(statement.milliseconds, milliseconds);
        statement.faults.extend(read.faults);
        if read.rows >= statement.rows {
            (statement.rows, statement.plan) = (read.rows, plan);
        }
    }
    found
}

/// Sums up the rows that a plan read.
struct Read<'a> {
    large: &'a [&'a str],
    indexes: &'a HashMap<String, Vec<String>>,
    rows: f64,
    faults: Vec<String>,
}

impl Read<'_> {
    fn node(&mut self, node: &Value) {
        let number = |key: &str| node[key].as_f64().unwrap_or(0.0);
        let text = |key: &str| node[key].as_str().unwrap_or_default();
        let (kind, table, index) = (text("Node Type"), text("Relation Name"), text("Index Name"));
        if kind.ends_with("Scan") && !table.is_empty() && number("Actual Loops") > 0.0 {
            let each = number("Actual Rows")
                + number("Rows Removed by Filter")
                + number("Rows Removed by Index Recheck");
            self.rows += each * number("Actual Loops");
            if kind == "Seq Scan" && self.large.contains(&table) {
                self.faults.push(format!("{table} is read whole"));
            }
        }
        let condition = text("Index Cond");
        if let Some(columns) = self.indexes.get(index).filter(|_| !condition.is_empty()) {
            // A condition contains an expression with or without its own brackets.
            let bare = |column: &str| {
                column.split(" COLLATE").next().map_or("", |it| it.trim_matches(['(', ')'])).to_owned()
            };
            let is_in = |column: &String| has_word(condition, &bare(column));
            let first = columns.iter().take_while(|column| is_in(column)).count();
            if columns[first..].iter().any(is_in) || first == 0 {
                self.faults.push(format!("{index} {columns:?} is read by {condition}"));
            }
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.node(child);
        }
    }
}

/// Whether a column, or an expression of it, is in a condition as a whole word, not as the end of another name.
fn has_word(condition: &str, column: &str) -> bool {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.';
    condition.match_indices(column).any(|(at, _)| {
        let after = condition[at + column.len()..].chars().next();
        !condition[..at].chars().next_back().is_some_and(is_letter)
            && !after.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}
