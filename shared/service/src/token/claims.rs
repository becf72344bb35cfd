//! Reads the claims of a token, and the person that it names.
//!
//! What must hold: a claim that is null counts as absent; times are those of RFC 7519, including fractions.

use serde::Deserialize;
use serde_json::{Number, Value};

use super::TokenError;
use protocol::{caller::Caller, clock::Timestamp, event::Person, id::UserId, text::CLAIM_MAX};

/// How far ahead of this machine's clock a token may have been issued, in milliseconds, since clocks differ. A token
/// from further ahead would keep later ones from changing the person's profile for that long.
const ISSUED_AHEAD_MS_MAX: i64 = 60_000;

/// The person that a valid token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person and their rights.
    pub caller: Caller,
    /// When the token was issued, in whole seconds since 1970.
    pub issued_at: Option<i64>,
    /// When the token expires, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// What the token says about the person.
    pub person: Person,
}

/// The accepted audiences and issuers of tokens. An empty list accepts all.
#[derive(Debug, Default)]
pub(super) struct AcceptedTokens {
    pub(super) audiences: Vec<String>,
    pub(super) issuers: Vec<String>,
}

/// The claims of a signed token.
#[derive(Deserialize)]
pub(super) struct Claims {
    exp: Option<Number>,
    iat: Option<Number>,
    nbf: Option<Number>,
    aud: Option<Value>,
    iss: Option<Value>,
    user_id: Option<Value>,
    sub: Option<Value>,
    token_type: Option<Value>,
    is_admin: Option<Value>,
    is_staff: Option<Value>,
    username: Option<Value>,
    email: Option<Value>,
    gender: Option<Value>,
    language: Option<Value>,
    account: Option<Value>,
    main_photo: Option<Value>,
    business: Option<Value>,
    org_id: Option<Value>,
}

/// A claim as text. A claim of another type, or one that is too long, counts as absent.
fn claim_text(claim: Option<Value>) -> Option<String> {
    match claim? {
        Value::String(text) if text.len() <= CLAIM_MAX && !text.contains('\0') => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A `NumericDate` in milliseconds since 1970: seconds, with a fraction or an exponent or neither.
#[expect(clippy::cast_possible_truncation, reason = "dates beyond the range of i64 saturate")]
fn numeric_date_ms(date: &Number) -> i64 {
    match (date.as_i64(), date.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1_000),
        (None, Some(seconds)) => (seconds * 1_000.0).floor() as i64,
        (None, None) => i64::MAX,
    }
}

impl AcceptedTokens {
    fn is_matched_by(&self, claims: &Claims) -> bool {
        let is_one_of = |claim: &Value, expected: &[String]| {
            claim.as_str().is_some_and(|name| expected.iter().any(|expected| expected == name))
        };
        let is_audience_accepted = match &claims.aud {
            Some(Value::Array(audiences)) => {
                audiences.iter().any(|audience| is_one_of(audience, &self.audiences))
            }
            audience => audience.as_ref().is_some_and(|audience| is_one_of(audience, &self.audiences)),
        };
        let is_issuer_accepted = claims.iss.as_ref().is_some_and(|issuer| is_one_of(issuer, &self.issuers));
        (self.audiences.is_empty() || is_audience_accepted) && (self.issuers.is_empty() || is_issuer_accepted)
    }
}

impl Claims {
    /// The person that the claims name, if the token is valid at `now`.
    pub(super) fn identity(self, accepted: &AcceptedTokens, now: Timestamp) -> Result<Identity, TokenError> {
        let now_ms = now.unix_ms();
        let [exp, iat, nbf] =
            [&self.exp, &self.iat, &self.nbf].map(|date| date.as_ref().map(numeric_date_ms));
        let expires_at_ms = exp.ok_or(TokenError::Invalid)?;
        if expires_at_ms <= now_ms {
            return Err(TokenError::Expired);
        }
        if nbf.is_some_and(|valid_from_ms| valid_from_ms > now_ms)
            || iat.is_some_and(|issued_at_ms| issued_at_ms > now_ms + ISSUED_AHEAD_MS_MAX)
        {
            return Err(TokenError::Early);
        }
        if !accepted.is_matched_by(&self) {
            return Err(TokenError::Invalid);
        }
        if self.token_type.is_some_and(|kind| kind != "access") {
            return Err(TokenError::WrongType);
        }
        let user = self.user_id.or(self.sub).ok_or(TokenError::Invalid)?;
        let user: UserId = serde_json::from_value(user).map_err(|_| TokenError::Invalid)?;
        if user.as_str().starts_with(UserId::VISITOR) {
            return Err(TokenError::Invalid);
        }
        let person = Person {
            username: claim_text(self.username),
            email: claim_text(self.email),
            gender: claim_text(self.gender),
            language: claim_text(self.language),
            account: claim_text(self.account),
            main_photo: claim_text(self.main_photo),
            business: self.business.and_then(|claim| claim.as_bool()),
        };
        // Only `true` makes an admin, no other value that some languages take for true.
        let is_admin = [self.is_admin, self.is_staff].contains(&Some(Value::Bool(true)));
        let caller = Caller { user, is_admin, org_id: claim_text(self.org_id) };
        Ok(Identity { caller, issued_at: iat.map(|ms| ms.div_euclid(1_000)), expires_at_ms, person })
    }
}
