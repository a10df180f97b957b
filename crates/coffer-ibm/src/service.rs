//! A service that asks for a token.

use std::sync::Arc;
use std::time::Instant;

use coffer_store::{BearerSource, BearerToken, TokenError};
use zeroize::Zeroizing;

use crate::http::{HttpClient, Request, Response, check_url};
use crate::{Iam, IbmError};

/// A service of IBM Cloud at its base URL, called in the name of one identity.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    base: String,
    http: HttpClient,
    iam: Arc<Iam>,
}

impl Service {
    /// Names a service; asks nothing yet. `base` is the start of all its URLs, without a slash at its end.
    ///
    /// # Errors
    /// [`IbmError::InvalidSetting`] for a URL that is malformed, or that would send a token over plain http to another
    /// machine.
    pub fn new(name: &str, base: &str, http: HttpClient, iam: Arc<Iam>) -> Result<Self, IbmError> {
        check_url(base)?;
        Ok(Self { name: name.to_owned(), base: base.trim_end_matches('/').to_owned(), http, iam })
    }

    /// Makes one request to `path`, which starts with a slash and may have a query. A token that is refused is replaced
    /// by a fresh one, once.
    ///
    /// # Errors
    /// Any of [`IbmError`].
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, IbmError> {
        self.send_until(None, (method, path), headers, body)
    }

    /// The same, but waits no longer than until `end` for token and answer together.
    pub(crate) fn send_until(
        &self,
        end: Option<Instant>,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, IbmError> {
        let token = self.iam.current_until(end)?;
        match self.send_with(&token, end, (method, path), headers, body) {
            Err(error) if error.status() == Some(401) => {
                self.iam.refused(&token);
                self.send_with(&self.iam.current_until(end)?, end, (method, path), headers, body)
            }
            result => result,
        }
    }

    fn send_with(
        &self,
        token: &BearerToken,
        end: Option<Instant>,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, IbmError> {
        let own = |value: &str| Zeroizing::new(value.to_owned());
        let mut all = vec![("authorization", Zeroizing::new(format!("Bearer {}", token.expose())))];
        all.extend(headers.iter().map(|(name, value)| (*name, own(value))));
        self.http.send(&Request {
            service: &self.name,
            method,
            url: &format!("{}{path}", self.base),
            headers: all,
            body: Zeroizing::new(body.to_vec()),
            end,
        })
    }
}

impl BearerSource for Iam {
    fn token(&self) -> Result<BearerToken, TokenError> {
        self.current_patiently().map_err(|error| self.token_error(error))
    }

    fn refused(&self, token: &BearerToken) {
        self.forget(token);
    }
}
