//! Splits long runs of characters in texts, for which PostgreSQL's parser takes time quadratic in their length.
//!
//! The parser takes each word as the possible beginning of a host name, a path, a hyphenated word or a comment, reads
//! ahead as far as that could reach, and backtracks if it was none. In `a_a_a_…` each letter makes it read the rest of
//! the text. None of these crosses white space, except comments.
//!
//! What must hold: splitting changes no search result. A run that is split is longer than any query, and a comment that
//! does not end is no comment for the parser either.

use std::borrow::Cow;

/// Characters after which a run is split. A query has at most 200.
const RUN_CHARS_MAX: usize = 256;

/// Inserts a space wherever a run without white space becomes too long, and into openings of comments without end.
pub(super) fn split_long_runs(text: &str) -> Cow<'_, str> {
    if text.len() <= RUN_CHARS_MAX {
        return Cow::Borrowed(text);
    }
    let last_comment_ends = text.rfind("-->").unwrap_or(0);
    let (mut cut, mut copied, mut run) = (String::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        run = if ends_run(letter) { 0 } else { run + 1 };
        let opens_comment = letter == '<' && at >= last_comment_ends && text[at..].starts_with("<!--");
        if opens_comment || (run >= RUN_CHARS_MAX && !letter.is_alphanumeric()) {
            let end = at + letter.len_utf8();
            cut.push_str(&text[copied..end]);
            cut.push(' ');
            (copied, run) = (end, 0);
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    cut.push_str(&text[copied..]);
    Cow::Owned(cut)
}

/// Whether a character ends a run: white space, and what no host name, path or URL contains.
fn ends_run(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_without_long_runs_is_left_alone() {
        let address = format!("https://example.com/{}?q=a&b=c", "path/".repeat(40));
        let prose = "Green tea, please: at o'clock-ish (or `so`), a.b@example.com. ".repeat(100);
        let comment = format!("<!-- {} -->", "a comment that ends ".repeat(100));
        let list = format!("{{{}}}", r#""key":"some_value-of-it","#.repeat(200));
        let one_word = "ab1".repeat(5_000);
        for text in [address, prose, comment, list, one_word] {
            assert_eq!(split_long_runs(&text), text);
        }
    }

    #[test]
    fn long_run_without_space_is_cut() {
        for pattern in ["a_", "_1", "~/", "./", "a-b_", "日_"] {
            let text = pattern.repeat(8_192);
            let cut = split_long_runs(&text);
            let longest = cut.split_whitespace().map(|run| run.chars().count()).max();
            assert!(longest <= Some(RUN_CHARS_MAX + pattern.len()), "{pattern}: {longest:?}");
        }
    }

    #[test]
    fn unterminated_comment_is_cut_and_a_terminated_one_is_not() {
        let cut = split_long_runs(&"<!-- a ".repeat(2_000)).into_owned();
        assert!(!cut.contains("<!--"));
        let text = format!("<!-- a --> {}", "<!-- b ".repeat(2_000));
        let cut = split_long_runs(&text);
        assert!(cut.starts_with("<!-- a --> < !-- b "), "{}", &cut[..40]);
    }

    proptest! {
        #[test]
        fn only_spaces_are_inserted(text in "([a-z]{1,3}[_./~-]|<!--|-->| |\\PC){0,600}") {
            let cut = split_long_runs(&text);
            let mut left = cut.chars();
            for letter in text.chars() {
                let found = left.find(|other| *other == letter || *other != ' ');
                prop_assert_eq!(found, Some(letter));
            }
            prop_assert!(left.all(|other| other == ' '));
        }
    }
}
