//! Ports: each service has one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::StdError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::cos::Front;
use crate::error::SandboxError;
use crate::region::Region;
use crate::{admin, iam};

/// Who answers at a port.
#[derive(Clone)]
pub(crate) enum Service {
    Cos(Front),
    Iam(Arc<Region>),
    Admin(Arc<Region>),
}

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
        }
    }
}

/// Opens a port and answers there until the runtime ends; returns where.
pub(crate) async fn open(
    address: SocketAddr,
    service: Service,
    tls: Option<TlsAcceptor>,
) -> Result<SocketAddr, SandboxError> {
    let shown = address.to_string();
    if !address.ip().is_loopback() {
        return Err(SandboxError::NotLoopback { address: shown });
    }
    let at = |source| SandboxError::Listen { address: shown.clone(), source };
    let listener = TcpListener::bind(address).await.map_err(at)?;
    let bound = listener.local_addr().map_err(at)?;
    tokio::spawn(async move {
        loop {
            // A connection that could not be taken is the client's to repeat.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            tokio::spawn(greet(stream, service.clone(), tls.clone()));
        }
    });
    Ok(bound)
}

async fn greet(stream: TcpStream, service: Service, tls: Option<TlsAcceptor>) {
    // Answers are small and awaited one by one.
    drop(stream.set_nodelay(true));
    match tls {
        None => converse(stream, service).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                converse(stream, service).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service) {
    let answer = service_fn(move |request| service.clone().answer(request));
    // A connection that breaks is the client's to notice.
    drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await);
}
