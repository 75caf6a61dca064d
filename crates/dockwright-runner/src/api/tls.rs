//! Certificates: the machine's authorities and one more, and the runner's own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{SetupError, TlsFiles};

/// Makes the TLS settings of a client.
pub(super) fn client_config(files: &TlsFiles) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(SetupError::Tls)?;
    let builder = builder.with_root_certificates(roots(files.ca_file.as_deref())?);
    match (&files.cert_file, &files.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| SetupError::Pem { path: key.clone(), source })?;
            builder.with_client_auth_cert(chain, key).map_err(SetupError::Tls)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(path), None) | (None, Some(path)) => Err(SetupError::HalfPair { path: path.clone() }),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(SetupError::Tls)?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let unreadable = |source| SetupError::Pem { path: path.to_owned(), source };
    let list: Vec<_> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if list.is_empty() { Err(SetupError::NoCertificate { path: path.to_owned() }) } else { Ok(list) }
}

/// Tells whether any of the files has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(PathBuf, Option<SystemTime>)>);

impl Stamp {
    pub(super) fn of(files: &TlsFiles) -> Self {
        let paths = [&files.ca_file, &files.cert_file, &files.key_file].into_iter().flatten();
        Self(paths.map(|path| (path.clone(), std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())).collect())
    }
}
