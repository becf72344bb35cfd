//! Reading what clients send: what is wrong is said of all fields at once, in the framework's words.

use protocol::error::Error;

use super::{
    body::{Fields, Given},
    errors::Refusal,
    wire,
};
use crate::{
    commands::state::ApiState,
    commands::topics::{DESCRIPTION_MAX, NewTopic, PageNumber, TITLE_MAX},
    media::{DecodedPicture, PICTURE_MAX, PictureError},
};

/// A value, or what is wrong with it.
type Checked<T> = Result<T, Vec<String>>;

const REQUIRED: &str = "This field is required.";
const NULL: &str = "This field may not be null.";
const BLANK: &str = "This field may not be blank.";
const NO_STRING: &str = "Not a valid string.";
const NUL: &str = "Null characters are not allowed.";
const EMPTY_FILE: &str = "The submitted file is empty.";
const NO_FILE: &str = "The submitted data was not a file. Check the encoding type on the form.";
const NO_PICTURE: &str =
    "Upload a valid image. The file you uploaded was either not an image or a corrupted image.";
const TOO_MANY_PIXELS: &str = "This picture has too many pixels.";

/// A chat to make.
pub(super) async fn new_chat(api: &ApiState, mut fields: Fields) -> Result<NewTopic, Refusal> {
    let title = title(fields.take("title"));
    let category = category(fields.take("room"), &api.topics);
    let given = fields.take("img");
    let picture = picture(api, given, fields.is_form).await?;
    let description = description(fields.take("description"));
    match (title, category, picture, description) {
        (Ok(title), Ok(category), Ok(picture), Ok(description)) => {
            Ok(NewTopic { title, category, description, picture })
        }
        (title, category, picture, description) => Err(Refusal::invalid(&wire::Invalid {
            title: title.err(),
            room: category.err(),
            img: picture.err(),
            description: description.err(),
            non_field_errors: None,
        })),
    }
}

/// What the description becomes; the outer `None` where it is not named.
pub(super) fn change(mut fields: Fields) -> Result<Option<Option<String>>, Refusal> {
    let given = fields.take("description");
    if given.is_none() {
        return Ok(None);
    }
    description(given).map(Some).map_err(|errors| {
        Refusal::invalid(&wire::Invalid { description: Some(errors), ..wire::Invalid::default() })
    })
}

/// Which page is asked for; `None` where there can't be such a one.
pub(super) fn page(asked: Option<&str>) -> Option<PageNumber> {
    match asked.map(str::trim) {
        None | Some("") => Some(PageNumber::Number(1)),
        Some("last") => Some(PageNumber::Last),
        Some(number) => number.parse().ok().map(PageNumber::Number),
    }
}

fn wrong<T>(reason: &str) -> Checked<T> {
    Err(vec![reason.to_owned()])
}

/// A text without the spaces around it, as the original's language knows them: U+001C to U+001F too.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter))
}

/// A text without the spaces around it.
fn text(given: Given, max: usize) -> Checked<String> {
    let (text, surrogate) = match given {
        Given::Text(text) => (text, None),
        Given::Surrogates(text, first) => (text, Some(first)),
        _ => return wrong(NO_STRING),
    };
    let text = trimmed(&text);
    let mut errors = Vec::new();
    if text.chars().count() > max {
        errors.push(format!("Ensure this field has no more than {max} characters."));
    }
    if text.contains('\0') {
        errors.push(NUL.to_owned());
    }
    if let Some(first) = surrogate {
        errors.push(format!("Surrogate characters are not allowed: U+{first:X}."));
    }
    if errors.is_empty() { Ok(text.to_owned()) } else { Err(errors) }
}

fn title(given: Option<Given>) -> Checked<String> {
    match given {
        None => wrong(REQUIRED),
        Some(Given::Null) => wrong(NULL),
        Some(given) => match text(given, TITLE_MAX)? {
            title if title.is_empty() => wrong(BLANK),
            title => Ok(title),
        },
    }
}

fn category(given: Option<Given>, categories: &[String]) -> Checked<String> {
    let said = match given {
        None => return wrong(REQUIRED),
        Some(Given::Null) => return wrong(NULL),
        Some(Given::Text(text) | Given::Surrogates(text, _) | Given::Other(text)) => text,
        Some(Given::File(_)) => String::new(),
    };
    if categories.contains(&said) { Ok(said) } else { wrong(&format!("\"{said}\" is not a valid choice.")) }
}

/// A description; an empty one is none.
fn description(given: Option<Given>) -> Checked<Option<String>> {
    match given {
        None | Some(Given::Null) => Ok(None),
        Some(given) => Ok(Some(text(given, DESCRIPTION_MAX)?).filter(|text| !text.is_empty())),
    }
}

async fn picture(
    api: &ApiState,
    given: Option<Given>,
    is_form: bool,
) -> Result<Checked<Option<DecodedPicture>>, Error> {
    Ok(match given {
        None => Ok(None),
        Some(Given::Null) => wrong(NULL),
        Some(Given::Text(text)) if text.is_empty() && is_form => Ok(None),
        Some(Given::Text(_) | Given::Surrogates(..) | Given::Other(_)) => wrong(NO_FILE),
        Some(Given::File(bytes)) if bytes.is_empty() => wrong(EMPTY_FILE),
        Some(Given::File(bytes)) if bytes.len() > PICTURE_MAX => {
            wrong(&format!("Ensure this file has no more than {} MiB.", PICTURE_MAX >> 20))
        }
        Some(Given::File(bytes)) => match api.media.look(bytes).await? {
            Ok(picture) => Ok(Some(picture)),
            Err(PictureError::NoPicture) => wrong(NO_PICTURE),
            Err(PictureError::TooLarge) => wrong(TOO_MANY_PIXELS),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_given() -> impl Strategy<Value = Option<Given>> {
        prop_oneof![
            Just(None),
            Just(Some(Given::Null)),
            ".{0,4}".prop_map(|text| Some(Given::Text(text))),
            "[a-z ]{60,80}".prop_map(|text| Some(Given::Text(text))),
            ".{0,20}".prop_map(|text| Some(Given::Other(text))),
            Just(Some(Given::File(bytes::Bytes::new()))),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_taken_within_the_bounds_or_refused(given in any_given(), asked in ".*") {
            if let Ok(title) = title(given.clone()) {
                prop_assert!((1..=TITLE_MAX).contains(&title.chars().count()) && !title.contains('\0'));
            }
            if let Ok(Some(description)) = description(given.clone()) {
                prop_assert!((1..=DESCRIPTION_MAX).contains(&description.chars().count()));
            }
            prop_assert!(category(given, &["films".to_owned()]).is_err(), "it is none of the texts above");
            let _ = page(Some(&asked));
        }
    }

    fn given(text: &str) -> Option<Given> {
        Some(Given::Text(text.to_owned()))
    }

    #[test]
    fn a_title_is_trimmed_and_bounded() {
        assert_eq!(title(given(" Friends\n")), Ok("Friends".to_owned()));
        assert_eq!(title(given(&format!("  {}  ", "ü".repeat(70)))), Ok("ü".repeat(70)));
        let long = "Ensure this field has no more than 70 characters.".to_owned();
        assert_eq!(title(given(&"ü".repeat(71))), Err(vec![long.clone()]));
        assert_eq!(title(given(&"\0".repeat(71))), Err(vec![long, NUL.to_owned()]));
        for (bad, reason) in
            [(None, REQUIRED), (Some(Given::Null), NULL), (given(" \n"), BLANK), (given("a\0"), NUL)]
        {
            assert_eq!(title(bad), wrong(reason));
        }
        for bad in [Given::Other("true".to_owned()), Given::File(bytes::Bytes::new())] {
            assert_eq!(title(Some(bad)), wrong(NO_STRING));
        }
    }

    #[test]
    fn pages_are_numbers_or_the_last() {
        for first in [None, Some(""), Some("1"), Some(" 1 ")] {
            assert_eq!(page(first), Some(PageNumber::Number(1)));
        }
        assert_eq!(page(Some("last")), Some(PageNumber::Last));
        for bad in ["-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(page(Some(bad)), None, "{bad}");
        }
    }
}
