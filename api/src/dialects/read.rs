//! Reading JSON: every failure names the field.

use serde::de::DeserializeOwned;
use shared::error::Error;

/// Reads a JSON value of that form.
pub(super) fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Error::bad_request("The body is not JSON.");
        }
        // The place in the text helps nobody who sees the field's name.
        let reason = inner.to_string();
        let reason = reason.split(" at line ").next().unwrap_or("");
        Error::bad_request(if path == "." { format!("{reason}.") } else { format!("{path}: {reason}.") })
    })?;
    deserializer.end().map_err(|_| Error::bad_request("The body is not JSON."))?;
    Ok(value)
}
