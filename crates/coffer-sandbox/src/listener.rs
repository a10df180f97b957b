//! Ports: each service has one.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use s3s::StdError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::cos::Front;
use crate::error::SandboxError;
use crate::kms;
use crate::region::Region;
use crate::{admin, iam};

/// Who answers at a port.
#[derive(Clone)]
pub(crate) enum Service {
    Cos(Front),
    Iam(Arc<Region>),
    Admin(Arc<Region>),
    /// The key service of the region; whether at its private endpoint.
    Kms(Arc<Region>, bool),
    /// The key service on its own.
    KmsAlone(Arc<kms::alone::Alone>),
}

/// How long a client of a service that is open to all may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

type Answer = Response<UnsyncBoxBody<Bytes, StdError>>;

impl Service {
    async fn answer(self, request: Request<Incoming>) -> Result<Answer, StdError> {
        let whole = |response: Response<Full<Bytes>>| {
            response.map(|body| body.map_err(|never: Infallible| match never {}).boxed_unsync())
        };
        match self {
            Self::Cos(front) => {
                let response = front.serve(request).await.map_err(StdError::from)?;
                Ok(response.map(BodyExt::boxed_unsync))
            }
            Self::Iam(region) => Ok(whole(iam::serve(&region, request).await)),
            Self::Admin(region) => Ok(whole(admin::serve(&region, request).await)),
            Self::Kms(region, is_private) => Ok(whole(kms::front::serve(&region, is_private, request).await)),
            Self::KmsAlone(alone) => Ok(whole(kms::alone::serve(&alone, request).await)),
        }
    }
}

/// Opens a port on loopback and answers there until the runtime ends; returns where.
pub(crate) async fn open(
    address: SocketAddr,
    service: Service,
    tls: Option<TlsAcceptor>,
) -> Result<SocketAddr, SandboxError> {
    if !address.ip().is_loopback() {
        return Err(SandboxError::NotLoopback { address: address.to_string() });
    }
    open_anywhere(address, service, tls).await
}

/// The same at any address.
pub(crate) async fn open_anywhere(
    address: SocketAddr,
    service: Service,
    tls: Option<TlsAcceptor>,
) -> Result<SocketAddr, SandboxError> {
    let shown = address.to_string();
    let at = |source| SandboxError::Listen { address: shown.clone(), source };
    let listener = TcpListener::bind(address).await.map_err(at)?;
    let bound = listener.local_addr().map_err(at)?;
    tokio::spawn(async move {
        loop {
            // A connection that could not be taken is the client's to repeat.
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            // At an IPv6 address a caller from an IPv4 one looks like ::ffff:127.0.0.1; it is who it is.
            let peer = Peer(peer.ip().to_canonical());
            tokio::spawn(greet(stream, peer, service.clone(), tls.clone()));
        }
    });
    Ok(bound)
}

async fn greet(stream: TcpStream, peer: Peer, service: Service, tls: Option<TlsAcceptor>) {
    // Answers are small and awaited one by one.
    drop(stream.set_nodelay(true));
    match tls {
        None => converse(stream, peer, service).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                converse(stream, peer, service).await;
            }
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    service: Service,
) {
    // Everything else is on loopback, among friends.
    let is_open_to_all = matches!(service, Service::KmsAlone(_));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.clone().answer(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    if is_open_to_all {
        builder = builder.http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    }
    // A connection that breaks is the client's to notice.
    drop(builder.serve_connection(TokioIo::new(stream), answer).await);
}
