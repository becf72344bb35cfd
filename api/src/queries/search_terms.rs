//! Splits links in search terms into the words that PostgreSQL indexes.
//!
//! PostgreSQL indexes a link as two words: its host, and its path with any punctuation that follows the link in the
//! text. In a search query it reads the punctuation of a link as operators. So a link is searched for as its host and
//! a prefix of its path.

/// The terms of a search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchTerms {
    /// Words, phrases and operators, for `websearch_to_tsquery`.
    pub(crate) words: String,
    /// The links as a `tsquery`; empty if there are none.
    pub(crate) links: String,
}

/// Punctuation that may follow a link in a text and is not part of it.
const TRAILING_PUNCTUATION: &[char] = &['.', ',', ';', ':', '!', '?', ')', ']', '\''];

impl SearchTerms {
    /// Separates the links from the other words; links in quotes stay words.
    pub(crate) fn parse(typed: &str) -> Self {
        let (mut words, mut links, mut is_quoted) = (Vec::new(), Vec::new(), false);
        for word in typed.split_whitespace() {
            let quotes = word.matches('"').count();
            let link = if is_quoted || quotes > 0 { None } else { parse_link(word) };
            match link {
                Some(link) => links.push(link),
                None => words.push(word),
            }
            is_quoted ^= quotes % 2 == 1;
        }
        Self { words: words.join(" "), links: links.join(" & ") }
    }
}

/// Converts a link to a `tsquery`; a `-` before the link negates it. Returns `None` for other words, and for links
/// that the index does not hold as host and path.
fn parse_link(word: &str) -> Option<String> {
    let (not, address) = word.strip_prefix('-').map_or(("", word), |address| ("!", address));
    let (_, address) = address.split_once("://")?;
    let address = address.trim_end_matches(TRAILING_PUNCTUATION).to_lowercase();
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (host, path) = address.split_at(end);
    let is_in_host = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':');
    if !host.contains('.') || !host.chars().all(is_in_host) {
        return None;
    }
    let is_in_path = |letter: &char| letter.is_ascii_graphic() && !r#""<>\^`{|}"#.contains(*letter);
    let path: String = path.chars().take_while(is_in_path).collect();
    let path = path.strip_prefix('/').filter(|path| !path.is_empty());
    let path = path.map(|path| format!(" & '/{}':*", path.replace('\'', "''"))).unwrap_or_default();
    Some(format!("{not}('{host}'{path})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(typed: &str) -> (String, String) {
        let SearchTerms { words, links } = SearchTerms::parse(typed);
        (words, links)
    }

    #[test]
    fn links_are_searched_by_host_and_beginning_of_the_path() {
        for (typed, words, links) in [
            ("tea -cake \"green tea\"", "tea -cake \"green tea\"", ""),
            ("see https://Example.com/Tea?x=1&y=2.", "see", "('example.com' & '/tea?x=1&y=2':*)"),
            ("https://example.com/", "", "('example.com')"),
            ("https://example.com?x=1", "", "('example.com')"),
            (
                "http://a.example:8080 -http://b.example/it's",
                "",
                "('a.example:8080') & !('b.example' & '/it''s':*)",
            ),
            ("http://a.example/tea/ä", "", "('a.example' & '/tea/':*)"),
        ] {
            assert_eq!(terms(typed), (words.to_owned(), links.to_owned()), "{typed}");
        }
    }

    #[test]
    fn search_terms_other_than_links_stay_words() {
        for typed in [
            "http://localhost:3000/a",
            "http://me:pw@example.com/x",
            "\"see https://example.com/a now\"",
            "://",
            "a://",
        ] {
            assert_eq!(terms(typed), (typed.to_owned(), String::new()));
        }
    }
}
