//! Accepting connections: one task per connection, HTTP/1.1, and a raw connection where a handler asks for it.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::{
    Engine,
    api::router::{Arrived, Caller, dispatch},
};

/// How long to rest after a failed accept; the usual cause is a full table of descriptors, which an immediate retry would not mend.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Where requests come from.
pub enum Listener {
    /// A unix socket; callers are known by process.
    Unix(UnixListener),
    /// TCP without encryption.
    Plain(TcpListener),
    /// TCP with TLS; clients show a certificate.
    Tls(TcpListener, Arc<rustls::ServerConfig>),
}

/// Answers requests on one listener until the task is dropped.
pub async fn serve(engine: Engine, listener: Listener) {
    loop {
        if let Err(error) = accept(&engine, &listener).await {
            tracing::warn!(%error, "accept a connection");
            tokio::time::sleep(ACCEPT_RETRY).await;
        }
    }
}

async fn accept(engine: &Engine, listener: &Listener) -> io::Result<()> {
    let engine = engine.clone();
    match listener {
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let caller = stream.peer_cred().ok().and_then(|credentials| credentials.pid()).filter(|pid| *pid > 0);
            tokio::spawn(connection(engine, caller.map_or(Caller::Outside, Caller::Process), stream));
        }
        Listener::Plain(listener) => {
            let (stream, peer) = listener.accept().await?;
            tokio::spawn(connection(engine, Caller::Address(peer), stream));
        }
        Listener::Tls(listener, config) => {
            let (stream, peer) = listener.accept().await?;
            let acceptor = TlsAcceptor::from(Arc::clone(config));
            tokio::spawn(async move {
                match acceptor.accept(stream).await {
                    Ok(stream) => connection(engine, Caller::Address(peer), stream).await,
                    Err(error) => tracing::debug!(%error, %peer, "TLS handshake"),
                }
            });
        }
    }
    Ok(())
}

async fn connection<S>(engine: Engine, caller: Caller, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let arrived = Arrived { engine: engine.clone(), caller, request };
        async move { Ok::<_, Infallible>(dispatch(arrived).await) }
    });
    // As Go's server does, the end of what a client sends is taken for its leaving: a build or a followed log must end with Ctrl-C, also
    // while there is nothing to write. Upgraded connections know half-closing; they are no longer HTTP.
    let mut builder = http1::Builder::new();
    builder.half_close(false).timer(TokioTimer::new()).max_buf_size(CONNECTION_BUFFER_BYTES);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Largest buffer of one connection; bodies are streamed, so this bounds the headers only.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;
