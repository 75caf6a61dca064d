//! Servers whose authority only the runner knows, and that want to see its certificate.

use std::{fs, path::Path, sync::Arc};

use dockwright_job::RunnerToken;
use dockwright_runner::api::{ApiError, Client, ServerSettings, SetupError, TlsFiles, details};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Lets clients in that have a certificate of the authority.
pub(crate) fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("a verifier");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

/// Serves `POST runners/verify` over TLS.
async fn serve(authority: &CertifiedIssuer<'static, KeyPair>) -> String {
    let acceptor = acceptor(authority);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let body = r#"{"id":7,"token":"glrt-same","token_expires_at":null}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}")
}

/// A client's certificate and key.
pub(crate) fn pair(authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["runner".to_owned()]).expect("parameters").signed_by(&key, authority).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

fn write_pair(directory: &Path, authority: &CertifiedIssuer<'static, KeyPair>) {
    let (certificate, key) = pair(authority);
    fs::write(directory.join("localhost.auth.crt"), certificate).expect("a file");
    fs::write(directory.join("localhost.auth.key"), key).expect("a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_from_the_certificates_directory_as_they_are_now() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = authority();
    let url = serve(&authority).await;
    let settings = ServerSettings { certificates_dir: Some(directory.path().to_owned()), ..ServerSettings::new(url) };
    let client = Client::new(settings).expect("a client");
    let (token, info) = (RunnerToken::new("glrt-same"), details(None));
    let verify = || client.verify(&token, "s_0123456789ab", &info);
    let unknown = verify().await.expect_err("the authority is unknown");
    assert!(matches!(unknown, ApiError::Unreachable { .. }), "{unknown:?}");
    fs::write(directory.path().join("localhost.crt"), authority.pem()).expect("a file");
    let nameless = verify().await.expect_err("the server wants a certificate");
    assert!(matches!(nameless, ApiError::Unreachable { .. }), "{nameless:?}");
    write_pair(directory.path(), &authority);
    assert_eq!(verify().await.expect("everything is there").id, 7);
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ca.crt");
    fs::write(&file, "nothing").expect("a file");
    let with = |tls| Client::new(ServerSettings { tls, ..ServerSettings::new("https://localhost") }).expect_err("it is of no use");
    let empty = with(TlsFiles { ca_file: Some(file.clone()), ..TlsFiles::default() });
    assert!(matches!(&empty, SetupError::NoCertificate { path } if *path == file), "{empty:?}");
    let half = with(TlsFiles { cert_file: Some(file.clone()), ..TlsFiles::default() });
    assert!(matches!(&half, SetupError::HalfPair { path } if *path == file), "{half:?}");
    let missing = with(TlsFiles { ca_file: Some("/nonexistent".into()), ..TlsFiles::default() });
    assert!(matches!(missing, SetupError::Pem { .. }), "{missing:?}");
}
