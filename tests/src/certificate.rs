//! Makes certificates for servers on loopback, with openssl.

use std::{path::PathBuf, process::Command};

use crate::folder::Folder;

/// A certificate for 127.0.0.1, its key, and the CA that signed it, as PEM files in a folder.
#[derive(Debug)]
pub struct Certificate(Folder);

impl Certificate {
    /// Makes certificate, key and CA; they are valid for two days.
    ///
    /// # Panics
    /// When openssl is missing or fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one: none is the default")]
    pub fn new() -> Self {
        let this = Self(Folder::new());
        let run = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(this.0.path()).output();
            let output = output.expect("openssl is there");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let ca = ["req", "-x509", "-subj", "/CN=a test", "-keyout", "ca-key.pem", "-out", "ca.pem"];
        run(&[&ca[..], &key[..]].concat());
        let server = ["req", "-x509", "-subj", "/CN=roomcast", "-CA", "ca.pem", "-CAkey", "ca-key.pem"];
        let names =
            ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        let files = ["-keyout", "key.pem", "-out", "cert.pem"];
        run(&[&server[..], &names[..], &files[..], &key[..]].concat());
        this
    }

    /// The CA's certificate, as a PEM file.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// The environment variables of `deploy/nats/cluster-tls.conf`, with the paths of the files.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let files = [("NATS_TLS_CERT", "cert.pem"), ("NATS_TLS_KEY", "key.pem"), ("NATS_TLS_CA", "ca.pem")];
        // Quoted: nats-server reads the variable as a configuration value.
        files.map(|(name, file)| (name, format!("{:?}", self.0.path().join(file)))).into_iter()
    }
}
