//! Implements `roomcast token`: signs a token with the secret of this machine, for trying things out and for tests.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use protocol::clock::Timestamp;
use serde_json::{Map, Value, json};

/// The person and lifetime of a token.
#[derive(Clone, Args)]
pub(crate) struct TokenCommandArgs {
    /// The person's id.
    #[arg(long)]
    user: protocol::id::UserId,
    /// Gives the token the rights of an administrator.
    #[arg(long)]
    admin: bool,
    /// How many hours the token is valid.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=87_600))]
    hours: i64,
    /// A claim of the person's profile, as name=value; may be repeated (username, email, gender, language).
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// The secret that signs the token; by default the file secrets/jwt of the data folder.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", hide_env_values = true)]
    jwt_secret: Option<String>,
    /// The data folder of deploy/up.
    #[arg(long, env = "ROOMCAST_DATA", default_value = "data")]
    data: PathBuf,
}

impl std::fmt::Debug for TokenCommandArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenCommandArgs {{ user: {}, .. }}", self.user)
    }
}

/// Prints the token on one line; the exit code is 2 for an error.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command for a terminal")]
pub(crate) fn main(config: &TokenCommandArgs) -> ExitCode {
    match read_secret(config).and_then(|secret| service::token::sign(&secret, &build_claims(config)?)) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("roomcast token: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read_secret(config: &TokenCommandArgs) -> anyhow::Result<String> {
    service::token::given_or_stored_secret(config.jwt_secret.as_deref(), &config.data)
}

fn build_claims(config: &TokenCommandArgs) -> anyhow::Result<Value> {
    let now = Timestamp::now().unix_ms() / 1_000;
    let mut claims = Map::new();
    for claim in &config.claims {
        let Some((name, value)) = claim.split_once('=') else {
            bail!("--claim {claim}: not of the form name=value");
        };
        claims.insert(name.to_owned(), json!(value));
    }
    // After the profile, so that a claim of it can't replace the user id.
    claims.insert("user_id".to_owned(), json!(config.user.as_str()));
    claims.insert("token_type".to_owned(), json!("access"));
    claims.insert("iat".to_owned(), json!(now));
    claims.insert("exp".to_owned(), json!(now + config.hours * 3600));
    if config.admin {
        claims.insert("is_admin".to_owned(), json!(true));
    }
    Ok(Value::Object(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(claims: &[&str]) -> TokenCommandArgs {
        TokenCommandArgs {
            user: "ann".parse().expect("an id"),
            admin: false,
            hours: 1,
            claims: claims.iter().map(|&claim| claim.to_owned()).collect(),
            jwt_secret: None,
            data: PathBuf::from("/nonexistent"),
        }
    }

    #[test]
    fn profile_claim_never_changes_the_user() {
        let claims = build_claims(&config(&["username=Ann", "user_id=bob"])).expect("claims");
        assert_eq!(claims["username"], "Ann");
        assert_eq!(claims["user_id"], "ann");
        assert_eq!(claims.get("is_admin"), None);
    }

    #[test]
    fn missing_token_settings_are_named() {
        let error = read_secret(&config(&[])).expect_err("no secret").to_string();
        assert!(error.contains("ROOMCAST_JWT_SECRET"), "{error}");
        assert!(build_claims(&config(&["username"])).is_err());
    }
}
