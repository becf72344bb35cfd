//! Decodes requests, and reports the errors of all fields at once, with the texts of Django REST Framework.

use protocol::error::Error;

use super::{
    body::{FieldValue, FormFields},
    errors::Rejection,
    wire,
};
use crate::{
    commands::topics::{DESCRIPTION_MAX, NewTopic, PageNumber, TITLE_MAX},
    pictures::{DecodedPicture, PICTURE_MAX_BYTES, PictureError, PictureStore},
};

/// A field's value, or its errors.
type FieldResult<T> = Result<T, Vec<String>>;

const REQUIRED: &str = "This field is required.";
const NULL: &str = "This field may not be null.";
const BLANK: &str = "This field may not be blank.";
const NOT_A_STRING: &str = "Not a valid string.";
const NULL_CHARACTER: &str = "Null characters are not allowed.";
const EMPTY_FILE: &str = "The submitted file is empty.";
const NOT_A_FILE: &str = "The submitted data was not a file. Check the encoding type on the form.";
const NOT_A_PICTURE: &str =
    "Upload a valid image. The file you uploaded was either not an image or a corrupted image.";
const TOO_MANY_PIXELS: &str = "This picture has too many pixels.";

/// Decodes the chat to create.
pub(super) async fn parse_new_chat(
    mut fields: FormFields,
    categories: &[String],
    pictures: &PictureStore,
) -> Result<NewTopic, Rejection> {
    let title = parse_title(fields.take("title"));
    let category = parse_category(fields.take("room"), categories);
    let given = fields.take("img");
    let picture = parse_picture(pictures, given, fields.is_form).await?;
    let description = parse_description(fields.take("description"));
    match (title, category, picture, description) {
        (Ok(title), Ok(category), Ok(picture), Ok(description)) => {
            Ok(NewTopic { title, category, description, picture })
        }
        (title, category, picture, description) => Err(Rejection::invalid(&wire::Invalid {
            title: title.err(),
            room: category.err(),
            img: picture.err(),
            description: description.err(),
            non_field_errors: None,
        })),
    }
}

/// Decodes a change: the outer `None` leaves the description as it is, the inner one removes it.
pub(super) fn parse_change(mut fields: FormFields) -> Result<Option<Option<String>>, Rejection> {
    let given = fields.take("description");
    if given.is_none() {
        return Ok(None);
    }
    parse_description(given).map(Some).map_err(|errors| {
        Rejection::invalid(&wire::Invalid { description: Some(errors), ..wire::Invalid::default() })
    })
}

/// Parses a page number; `None` where no such page can exist.
pub(super) fn parse_page(query: Option<&str>) -> Option<PageNumber> {
    match query.map(str::trim) {
        None | Some("") => Some(PageNumber::Number(1)),
        Some("last") => Some(PageNumber::Last),
        Some(number) => number.parse().ok().map(PageNumber::Number),
    }
}

fn field_error<T>(reason: &str) -> FieldResult<T> {
    Err(vec![reason.to_owned()])
}

/// Trims whitespace as Python's `str.strip` does, U+001C to U+001F included.
fn trim_like_python(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter))
}

/// Parses a text of at most `max` characters, and trims it.
fn parse_text(given: FieldValue, max: usize) -> FieldResult<String> {
    let (text, surrogate) = match given {
        FieldValue::Text(text) => (text, None),
        FieldValue::TextWithSurrogates(text, first) => (text, Some(first)),
        _ => return field_error(NOT_A_STRING),
    };
    let text = trim_like_python(&text);
    let mut errors = Vec::new();
    if text.chars().count() > max {
        errors.push(format!("Ensure this field has no more than {max} characters."));
    }
    if text.contains('\0') {
        errors.push(NULL_CHARACTER.to_owned());
    }
    if let Some(first) = surrogate {
        errors.push(format!("Surrogate characters are not allowed: U+{first:X}."));
    }
    if errors.is_empty() { Ok(text.to_owned()) } else { Err(errors) }
}

fn parse_title(given: Option<FieldValue>) -> FieldResult<String> {
    match given {
        None => field_error(REQUIRED),
        Some(FieldValue::Null) => field_error(NULL),
        Some(given) => match parse_text(given, TITLE_MAX)? {
            title if title.is_empty() => field_error(BLANK),
            title => Ok(title),
        },
    }
}

fn parse_category(given: Option<FieldValue>, categories: &[String]) -> FieldResult<String> {
    let category = match given {
        None => return field_error(REQUIRED),
        Some(FieldValue::Null) => return field_error(NULL),
        Some(
            FieldValue::Text(text) | FieldValue::TextWithSurrogates(text, _) | FieldValue::OtherJson(text),
        ) => text,
        Some(FieldValue::File(_)) => String::new(),
    };
    if categories.contains(&category) {
        Ok(category)
    } else {
        field_error(&format!("\"{category}\" is not a valid choice."))
    }
}

/// Parses a description; an empty one is `None`.
fn parse_description(given: Option<FieldValue>) -> FieldResult<Option<String>> {
    match given {
        None | Some(FieldValue::Null) => Ok(None),
        Some(given) => Ok(Some(parse_text(given, DESCRIPTION_MAX)?).filter(|text| !text.is_empty())),
    }
}

async fn parse_picture(
    pictures: &PictureStore,
    given: Option<FieldValue>,
    is_form: bool,
) -> Result<FieldResult<Option<DecodedPicture>>, Error> {
    Ok(match given {
        None => Ok(None),
        Some(FieldValue::Null) => field_error(NULL),
        Some(FieldValue::Text(text)) if text.is_empty() && is_form => Ok(None),
        Some(FieldValue::Text(_) | FieldValue::TextWithSurrogates(..) | FieldValue::OtherJson(_)) => {
            field_error(NOT_A_FILE)
        }
        Some(FieldValue::File(bytes)) if bytes.is_empty() => field_error(EMPTY_FILE),
        Some(FieldValue::File(bytes)) if bytes.len() > PICTURE_MAX_BYTES => {
            field_error(&format!("Ensure this file has no more than {} MiB.", PICTURE_MAX_BYTES >> 20))
        }
        Some(FieldValue::File(bytes)) => match pictures.decode_picture(bytes).await? {
            Ok(picture) => Ok(Some(picture)),
            Err(PictureError::NotAPicture) => field_error(NOT_A_PICTURE),
            Err(PictureError::TooLarge) => field_error(TOO_MANY_PIXELS),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_given() -> impl Strategy<Value = Option<FieldValue>> {
        prop_oneof![
            Just(None),
            Just(Some(FieldValue::Null)),
            ".{0,4}".prop_map(|text| Some(FieldValue::Text(text))),
            "[a-z ]{60,80}".prop_map(|text| Some(FieldValue::Text(text))),
            ".{0,20}".prop_map(|text| Some(FieldValue::OtherJson(text))),
            Just(Some(FieldValue::File(bytes::Bytes::new()))),
        ]
    }

    proptest! {
        #[test]
        fn any_topic_fields_are_accepted_within_bounds_or_refused(given in any_given(), query in ".*") {
            if let Ok(title) = parse_title(given.clone()) {
                prop_assert!((1..=TITLE_MAX).contains(&title.chars().count()) && !title.contains('\0'));
            }
            if let Ok(Some(description)) = parse_description(given.clone()) {
                prop_assert!((1..=DESCRIPTION_MAX).contains(&description.chars().count()));
            }
            prop_assert!(parse_category(given, &["films".to_owned()]).is_err(), "it is none of the texts above");
            let _ = parse_page(Some(&query));
        }
    }

    fn given(text: &str) -> Option<FieldValue> {
        Some(FieldValue::Text(text.to_owned()))
    }

    #[test]
    fn title_is_trimmed_and_bounded() {
        assert_eq!(parse_title(given(" Friends\n")), Ok("Friends".to_owned()));
        assert_eq!(parse_title(given(&format!("  {}  ", "ü".repeat(70)))), Ok("ü".repeat(70)));
        let long = "Ensure this field has no more than 70 characters.".to_owned();
        assert_eq!(parse_title(given(&"ü".repeat(71))), Err(vec![long.clone()]));
        assert_eq!(parse_title(given(&"\0".repeat(71))), Err(vec![long, NULL_CHARACTER.to_owned()]));
        for (bad, reason) in [
            (None, REQUIRED),
            (Some(FieldValue::Null), NULL),
            (given(" \n"), BLANK),
            (given("a\0"), NULL_CHARACTER),
        ] {
            assert_eq!(parse_title(bad), field_error(reason));
        }
        for bad in [FieldValue::OtherJson("true".to_owned()), FieldValue::File(bytes::Bytes::new())] {
            assert_eq!(parse_title(Some(bad)), field_error(NOT_A_STRING));
        }
    }

    #[test]
    fn pages_are_numbers_or_the_last() {
        for first in [None, Some(""), Some("1"), Some(" 1 ")] {
            assert_eq!(parse_page(first), Some(PageNumber::Number(1)));
        }
        assert_eq!(parse_page(Some("last")), Some(PageNumber::Last));
        for bad in ["-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(parse_page(Some(bad)), None, "{bad}");
        }
    }
}
