//! What a token says, and who that is.

use serde::Deserialize;
use serde_json::Value;

use super::TokenError;
use crate::{
    event::Person,
    id::UserId,
    rules::{CLAIM_MAX, Caller},
};

/// Who a valid token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person and their rights.
    pub caller: Caller,
    /// When the token was issued, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
    /// What it says of the person.
    pub person: Person,
}

#[derive(Deserialize)]
pub(super) struct Claims {
    exp: i64,
    iat: Option<i64>,
    user_id: Option<Value>,
    sub: Option<Value>,
    token_type: Option<String>,
    #[serde(default)]
    is_admin: bool,
    #[serde(default)]
    is_staff: bool,
    username: Option<Value>,
    email: Option<Value>,
    gender: Option<Value>,
    language: Option<Value>,
    account: Option<Value>,
    main_photo: Option<Value>,
    business: Option<Value>,
    org_id: Option<Value>,
}

/// A claim as text; one of another form, or too long, says nothing.
fn text(claim: Option<Value>) -> Option<String> {
    match claim? {
        Value::String(text) if text.len() <= CLAIM_MAX && !text.contains('\0') => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Claims {
    pub(super) fn identity(self) -> Result<Identity, TokenError> {
        if self.token_type.is_some_and(|kind| kind != "access") {
            return Err(TokenError::WrongType);
        }
        let user = self.user_id.or(self.sub).ok_or(TokenError::Invalid)?;
        let user: UserId = serde_json::from_value(user).map_err(|_| TokenError::Invalid)?;
        if user.as_str().starts_with(UserId::VISITOR) {
            return Err(TokenError::Invalid);
        }
        let person = Person {
            username: text(self.username),
            email: text(self.email),
            gender: text(self.gender),
            language: text(self.language),
            account: text(self.account),
            main_photo: text(self.main_photo),
            business: self.business.and_then(|claim| claim.as_bool()),
        };
        let caller = Caller { user, is_admin: self.is_admin || self.is_staff, org_id: text(self.org_id) };
        Ok(Identity { caller, issued_at: self.iat, expires_at: self.exp, person })
    }
}
