//! IBM Cloud: who we are, and requests to its services.
//!
//! - [`HttpClient`] makes one request and gives one answer, with time-outs, a proxy, and errors that name the request for
//!   IBM's support and hold no secret.
//! - [`Iam`] turns an API key or the token of a compute resource into bearer tokens and keeps them fresh, for stores
//!   (as a [`BearerSource`](coffer_store::BearerSource)), key services and collectors alike.
//! - [`Service`] is a service at a base URL: requests to it carry a token, and one that is refused is replaced once.
//! - [`KeyServices`] are key services, whose root keys wrap and open key slots: Key Protect, HPCS, and services with
//!   their interface.
//!
//! But for the key services, and tokens for stores ([`Patience`]), nothing here tries again on its own: [`IbmError::is_retryable`] and
//! [`IbmError::retry_after`] are for the one who knows how long to go on. Nothing reads the environment but the proxy's variables, and nothing is logged.

mod error;
mod http;
mod iam;
mod key_service;
mod patience;
mod service;

pub use error::IbmError;
pub use http::{HttpClient, HttpOptions, Request, Response};
pub use iam::{IAM_ENDPOINT, Iam, IamCredential, PRIVATE_IAM_ENDPOINT, Profile};
pub use key_service::{
    KeyFacts, KeyServiceOptions, KeyServices, Place, PlaceError, Rewrapped, ServiceRoot, TrustedHost,
};
pub use patience::Patience;
pub use service::Service;
