//! Public keys of the host application, by their id; those of an address are refreshed.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use tokio::sync::Notify;

use crate::lifecycle::Shutdown;

/// Between refreshes without a cause.
const REFRESH: Duration = Duration::from_secs(300);
/// Between refreshes that unknown key ids cause.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// How long fetching may take.
const FETCH: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys known now.
#[derive(Debug)]
pub(super) struct Jwks {
    keys: ArcSwap<Vec<Key>>,
    unknown: Notify,
}

impl Jwks {
    pub(super) async fn start(source: &str, shutdown: &Shutdown) -> anyhow::Result<Arc<Self>> {
        let is_address = source.starts_with("http://") || source.starts_with("https://");
        let text = if is_address {
            fetch(source).await?
        } else {
            std::fs::read_to_string(source).with_context(|| format!("can't read {source}"))?
        };
        let this = Arc::new(Self { keys: ArcSwap::from_pointee(parse(&text)?), unknown: Notify::new() });
        if is_address {
            tokio::spawn(this.clone().refresh(source.to_owned(), shutdown.clone()));
        }
        Ok(this)
    }

    /// The key that a token names, or the only one of its algorithm where it names none.
    pub(super) fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<(Algorithm, DecodingKey)> {
        let keys = self.keys.load();
        let mut of_algorithm = keys.iter().filter(|key| key.algorithm == algorithm);
        let found = match id {
            Some(id) => of_algorithm.find(|key| key.id.as_deref() == Some(id)),
            None => of_algorithm.next().filter(|_| of_algorithm.next().is_none()),
        };
        if found.is_none() {
            self.unknown.notify_one();
        }
        found.map(|key| (key.algorithm, key.key.clone()))
    }

    async fn refresh(self: Arc<Self>, source: String, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.soft.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
                () = self.unknown.notified() => {}
            }
            match fetch(&source).await.and_then(|text| parse(&text)) {
                Ok(keys) => self.keys.store(Arc::new(keys)),
                Err(error) => tracing::warn!(%error, "the JWKS was not refreshed: the old keys go on"),
            }
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    }
}

async fn fetch(source: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().timeout(FETCH).build()?;
    Ok(client.get(source).send().await?.error_for_status()?.text().await?)
}

fn parse(text: &str) -> anyhow::Result<Vec<Key>> {
    let set: JwkSet = serde_json::from_str(text).context("not a JWKS")?;
    let keys: Vec<Key> = set.keys.iter().filter_map(key).collect();
    anyhow::ensure!(!keys.is_empty(), "no key for RS256, ES256 or EdDSA");
    Ok(keys)
}

/// A key of a kind that counts. The key's own kind decides its algorithm.
fn key(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        _ => return None,
    };
    Some(Key { id: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key of RFC 8037, appendix A.
    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty":"oct","kid":"b","k":"c2VjcmV0"}]}"#;

    #[test]
    fn only_public_keys_count_and_by_their_id() {
        let jwks = Jwks { keys: ArcSwap::from_pointee(parse(SET).expect("a set")), unknown: Notify::new() };
        assert!(jwks.key(Some("a"), Algorithm::EdDSA).is_some());
        assert!(jwks.key(None, Algorithm::EdDSA).is_some());
        assert!(jwks.key(Some("b"), Algorithm::EdDSA).is_none());
        assert!(jwks.key(Some("a"), Algorithm::RS256).is_none());
        assert!(parse(r#"{"keys":[]}"#).is_err());
    }
}
