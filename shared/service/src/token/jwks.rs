//! Keeps the public keys of the host application, by their id, and reads them again when they change.
//!
//! What must hold: a key verifies signatures only, and only with the one algorithm of its type. While the source can't
//! be read, the keys that were read last stay in use. Reading is bounded in bytes and time, uses only the configured
//! source, and follows no redirect.

use std::{
    fs::File,
    io::Read as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use crate::{lifecycle::Shutdown, metric_names as names, origin};
use protocol::json;

/// Interval at which keys at an address are read again.
const ADDRESS_REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// Interval at which a file is read again: short, for operators who change keys by hand.
const FILE_REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum pause after a reading that an unknown key id caused.
const UNKNOWN_KEY_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// Time-out of reading the source.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a set of keys, in bytes.
const JWKS_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The current keys.
#[derive(Debug)]
pub(super) struct Jwks {
    keys: ArcSwap<Vec<VerificationKey>>,
    /// Counts how often the keys have changed.
    generation: AtomicU64,
    unknown_key_seen: Notify,
}

impl Jwks {
    pub(super) async fn start(source: &str, shutdown: &Shutdown) -> anyhow::Result<Arc<Self>> {
        let source = KeySource::parse(source)?;
        let text = source.read().await?;
        let this = Arc::new(Self {
            keys: ArcSwap::from_pointee(parse_jwks(&text)?),
            generation: AtomicU64::new(0),
            unknown_key_seen: Notify::new(),
        });
        tokio::spawn(this.clone().refresh(source, text, shutdown.clone()));
        Ok(this)
    }

    /// Changes whenever the keys have changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The key with this id, or, without an id, the only key of this algorithm. If there is none, the source is read
    /// again soon.
    pub(super) fn find_key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.keys.load();
        let mut of_algorithm = keys.iter().filter(|key| key.algorithm == algorithm);
        let key = match id {
            Some(id) => of_algorithm.find(|key| key.id.as_deref() == Some(id)),
            None => of_algorithm.next().filter(|_| of_algorithm.next().is_none()),
        };
        if key.is_none() {
            self.unknown_key_seen.notify_one();
        }
        key.map(|key| key.key.clone())
    }

    /// Reads the source again and again until the soft stop. `last_text` is what was read last.
    async fn refresh(self: Arc<Self>, source: KeySource, mut last_text: Vec<u8>, shutdown: Shutdown) {
        let mut is_usable = true;
        loop {
            let pause = tokio::select! {
                () = shutdown.soft.cancelled() => return,
                () = tokio::time::sleep(source.refresh_interval()) => Duration::ZERO,
                () = self.unknown_key_seen.notified() => UNKNOWN_KEY_REFRESH_INTERVAL,
            };
            let outcome = match source.read().await {
                Ok(text) if text == last_text && is_usable => "unchanged",
                Ok(text) if text == last_text => "unusable",
                Ok(text) => {
                    let keys = parse_jwks(&text);
                    last_text = text;
                    is_usable = keys.is_ok();
                    match keys {
                        Ok(keys) => {
                            self.keys.store(Arc::new(keys));
                            self.generation.fetch_add(1, Ordering::Release);
                            "changed"
                        }
                        Err(error) => {
                            let error = format!("{error:#}");
                            tracing::warn!(error, "the JWKS can't be used: the keys read before stay in use");
                            "unusable"
                        }
                    }
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the JWKS can't be read: the keys read before stay in use");
                    "failed"
                }
            };
            metrics::counter!(names::JWKS_READS_TOTAL, "outcome" => outcome).increment(1);
            tokio::select! {
                () = shutdown.soft.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Where the keys are read from.
#[derive(Debug)]
enum KeySource {
    /// A reader that hangs, on a file system that does not answer, keeps the lock, so that no second thread hangs with
    /// it.
    File(PathBuf, Arc<Mutex<()>>),
    Address(Client, Url),
}

impl KeySource {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let is_address =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(scheme));
        if !is_address("http://") && !is_address("https://") {
            return Ok(Self::File(text.into(), Arc::default()));
        }
        let url = Url::parse(text).context("not an address")?;
        // With plain HTTP, anyone on the network path could insert a key.
        let is_local = url.host_str().is_some_and(origin::is_this_machine);
        ensure!(is_local || url.scheme() == "https", "must be an https address, or a file");
        let client = Client::builder().timeout(READ_TIMEOUT).redirect(redirect::Policy::none()).build()?;
        Ok(Self::Address(client, url))
    }

    fn refresh_interval(&self) -> Duration {
        match self {
            Self::File(..) => FILE_REFRESH_INTERVAL,
            Self::Address(..) => ADDRESS_REFRESH_INTERVAL,
        }
    }

    /// Reads the whole source. Fails if it is larger than [`JWKS_BYTES_MAX`].
    async fn read(&self) -> anyhow::Result<Vec<u8>> {
        let text = match self {
            Self::File(path, read_lock) => {
                let name = path.display();
                let read = timeout(READ_TIMEOUT, read_file(path.clone(), read_lock.clone()));
                read.await
                    .with_context(|| format!("{name} was not read in {} s", READ_TIMEOUT.as_secs()))?
                    .with_context(|| format!("can't read {name}"))?
            }
            Self::Address(client, url) => {
                let mut answer = client.get(url.clone()).send().await?;
                if !answer.status().is_success() {
                    bail!("the address answers {}; redirects are not followed", answer.status());
                }
                let mut text = Vec::new();
                while let Some(chunk) = answer.chunk().await? {
                    text.extend_from_slice(&chunk);
                    if text.len() > JWKS_BYTES_MAX {
                        break;
                    }
                }
                text
            }
        };
        ensure!(text.len() <= JWKS_BYTES_MAX, "more than {JWKS_BYTES_MAX} bytes");
        Ok(text)
    }
}

/// Reads the first `JWKS_BYTES_MAX + 1` bytes of a file, once no other thread is reading it.
async fn read_file(path: PathBuf, read_lock: Arc<Mutex<()>>) -> anyhow::Result<Vec<u8>> {
    let guard = read_lock.lock_owned().await;
    let read = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<u8>> {
        let _guard = guard;
        let mut text = Vec::new();
        File::open(path)?.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        Ok(text)
    });
    read.await?
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// The usable keys of a set. Keys of an unknown form are skipped, as RFC 7517 says. Fails if no key is usable.
fn parse_jwks(text: &[u8]) -> anyhow::Result<Vec<VerificationKey>> {
    let set: JwkSet = json::object(text).context("not a JWKS")?;
    let known = set.keys.into_iter().filter_map(|value| serde_json::from_value(value).ok());
    let keys: Vec<VerificationKey> = known.filter_map(|jwk| to_verification_key(&jwk)).collect();
    ensure!(!keys.is_empty(), "no key to verify RS256, ES256 or EdDSA");
    Ok(keys)
}

/// Converts a key if it is usable. Its type determines the algorithm; its `alg`, if present, must agree.
fn to_verification_key(jwk: &Jwk) -> Option<VerificationKey> {
    let common = &jwk.common;
    let is_for_signatures =
        common.public_key_use.as_ref().is_none_or(|key_use| *key_use == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    if !is_for_signatures || common.key_algorithm.is_some_and(|alg| alg != algorithm.into()) {
        return None;
    }
    Some(VerificationKey { id: common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests;
