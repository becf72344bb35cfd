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
    let last_comment_end = text.rfind("-->").unwrap_or(0);
    let (mut split, mut copied_bytes, mut run_chars) = (String::new(), 0, 0);
    for (index, character) in text.char_indices() {
        run_chars = if ends_run(character) { 0 } else { run_chars + 1 };
        let opens_comment =
            character == '<' && index >= last_comment_end && text[index..].starts_with("<!--");
        if opens_comment || (run_chars >= RUN_CHARS_MAX && !character.is_alphanumeric()) {
            let end = index + character.len_utf8();
            split.push_str(&text[copied_bytes..end]);
            split.push(' ');
            (copied_bytes, run_chars) = (end, 0);
        }
    }
    if copied_bytes == 0 {
        return Cow::Borrowed(text);
    }
    split.push_str(&text[copied_bytes..]);
    Cow::Owned(split)
}

/// Whether a character ends a run: white space, and what no host name, path or URL contains.
fn ends_run(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
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
            let split = split_long_runs(&text);
            let longest = split.split_whitespace().map(|run| run.chars().count()).max();
            assert!(longest <= Some(RUN_CHARS_MAX + pattern.len()), "{pattern}: {longest:?}");
        }
    }

    #[test]
    fn unterminated_comment_is_cut_and_a_terminated_one_is_not() {
        let split = split_long_runs(&"<!-- a ".repeat(2_000)).into_owned();
        assert!(!split.contains("<!--"));
        let text = format!("<!-- a --> {}", "<!-- b ".repeat(2_000));
        let split = split_long_runs(&text);
        assert!(split.starts_with("<!-- a --> < !-- b "), "{}", &split[..40]);
    }

    proptest! {
        #[test]
        fn only_spaces_are_inserted(text in "([a-z]{1,3}[_./~-]|<!--|-->| |\\PC){0,600}") {
            let split = split_long_runs(&text);
            let mut rest = split.chars();
            for character in text.chars() {
                let found = rest.find(|other| *other == character || *other != ' ');
                prop_assert_eq!(found, Some(character));
            }
            prop_assert!(rest.all(|other| other == ' '));
        }
    }
}
