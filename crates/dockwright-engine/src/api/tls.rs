//! Certificates for the API on TCP, as the entrypoint of Docker in Docker makes them: an authority, a server and a client.
//!
//! Keys are elliptic (P-256), which takes milliseconds where the original's RSA takes seconds. Keys that are there already are kept;
//! certificates are made anew at every start, with the names and addresses of that start.

use std::{net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::error::{Context as _, EngineError, Result};

/// Days that certificates are valid, as in the original.
const VALID_DAYS: i64 = 825;

/// An authority that issues the certificates of one engine.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// The files of a server's directory, in PEM.
#[derive(Debug, Default)]
pub struct ServerFiles {
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

impl ServerFiles {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.ca.is_some() && self.cert.is_some() && self.key.is_some()
    }
}

fn key(existing: Option<&str>) -> Result<KeyPair> {
    match existing {
        Some(pem) => KeyPair::from_pem(pem).context("read the existing key"),
        None => KeyPair::generate().context("make a key"),
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = jiff::Timestamp::now();
    let day = |offset: i64| {
        let date = jiff::tz::TimeZone::UTC.to_datetime(now.checked_add(jiff::SignedDuration::from_hours(24 * offset)).unwrap_or(now));
        let (month, day) = (u8::try_from(date.month()).unwrap_or(1), u8::try_from(date.day()).unwrap_or(1));
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    // From yesterday on, for clients whose clock is behind.
    params.not_before = day(-1);
    params.not_after = day(VALID_DAYS);
    params
}

impl Authority {
    /// Makes an authority, with its old key if there is one.
    pub fn new(existing_key: Option<&str>) -> Result<Self> {
        let mut params = params("docker:dind CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, key(existing_key)?).context("sign the authority's certificate")?;
        Ok(Self { issuer })
    }

    /// Returns the authority's certificate.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the authority's key.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a server's certificate. Names may be in OpenSSL's form (`DNS:x`, `IP:y`).
    pub fn issue_server(&self, existing_key: Option<&str>, names: &[String], addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = params("docker:dind server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let named = names.iter().filter_map(|name| alternative_name(name));
        let mut alternatives: Vec<SanType> = named.chain(addresses.iter().map(|address| SanType::IpAddress(*address))).collect();
        alternatives.sort_by_key(|name| format!("{name:?}"));
        alternatives.dedup();
        params.subject_alt_names = alternatives;
        self.issue(params, existing_key)
    }

    /// Issues a client's certificate.
    pub fn issue_client(&self, existing_key: Option<&str>) -> Result<Pair> {
        let mut params = params("docker:dind client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, existing_key)
    }

    fn issue(&self, params: CertificateParams, existing_key: Option<&str>) -> Result<Pair> {
        let key = key(existing_key)?;
        let certificate = params.signed_by(&key, &self.issuer).context("sign a certificate")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Reads a name or address; what cannot be in a certificate is left out.
fn alternative_name(name: &str) -> Option<SanType> {
    if let Some(address) = name.strip_prefix("IP:") {
        return address.parse().ok().map(SanType::IpAddress);
    }
    let name = name.strip_prefix("DNS:").unwrap_or(name);
    if name.is_empty() {
        return None;
    }
    name.try_into().ok().map(SanType::DnsName)
}

/// Returns how to serve TLS to clients that show a certificate of the same authority.
pub fn server_config(files: &ServerFiles) -> Result<Arc<ServerConfig>> {
    let pem = |file: &Option<String>| file.clone().unwrap_or_default().into_bytes();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem(&files.ca)) {
        roots.add(certificate.context("read ca.pem")?).context("use ca.pem")?;
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem(&files.cert)).collect::<Result<_, _>>().context("read cert.pem")?;
    let key = PrivateKeyDer::from_pem_slice(&pem(&files.key)).context("read key.pem")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().context("use ca.pem")?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| EngineError::internal("use cert.pem", &error))?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_be_made_of_what_is_issued() {
        let authority = Authority::new(None).unwrap();
        let names = ["docker".to_owned(), "DNS:extra".to_owned(), "IP:10.1.1.1".to_owned(), "docker".to_owned(), "not a name ü".to_owned()];
        let pair = authority.issue_server(None, &names, &[IpAddr::from([127, 0, 0, 1])]).unwrap();
        let again = authority.issue_server(Some(&pair.key), &names, &[]).unwrap();
        assert_eq!(again.key, pair.key);
        server_config(&ServerFiles { ca: Some(authority.certificate_pem()), cert: Some(pair.certificate), key: Some(pair.key) }).unwrap();
    }

    #[test]
    fn an_authority_keeps_its_key() {
        let first = Authority::new(None).unwrap();
        let second = Authority::new(Some(&first.key_pem())).unwrap();
        assert_eq!(first.key_pem(), second.key_pem());
        assert!(Authority::new(Some("nonsense")).is_err());
    }
}
