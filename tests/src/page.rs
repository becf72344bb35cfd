//! Reads examples and tables from pages of the documentation, for tests that check them.

/// The first code block with this language tag.
///
/// # Panics
/// When the page has none.
#[must_use]
pub fn block<'a>(page: &'a str, kind: &str) -> &'a str {
    let rest = page.split_once(&format!("```{kind}\n")).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once("```")).expect("a block that ends").0
}

/// The rows of the table below a heading, without the table's header: both cells of each, the first one without
/// backticks.
///
/// # Panics
/// When there is no such table of two columns.
#[must_use]
pub fn table(page: &str, heading: &str) -> Vec<(String, String)> {
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let lines =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = lines.skip(2).map(|line| {
        let (name, text) = line.trim_matches(['|', ' ']).split_once(" | ").expect("two cells");
        (name.trim_matches('`').to_owned(), text.to_owned())
    });
    rows.collect()
}
