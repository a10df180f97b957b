//! Tokens that stand for the caller, and where they come from.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::Cause;

/// A token that is sent as `Authorization: Bearer`. It is wiped when dropped and never shown; clones share the one copy.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Arc<Zeroizing<String>>);

impl BearerToken {
    /// Takes a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Arc::new(Zeroizing::new(token)))
    }

    /// The token itself, for a header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// What gives tokens and keeps them fresh.
pub trait BearerSource: Send + Sync {
    /// The token in force; may block while a new one is fetched. Calls that come meanwhile share that fetch. Asking again
    /// where that may help is part of it: an error is final.
    ///
    /// # Errors
    /// [`TokenError`].
    fn token(&self) -> Result<BearerToken, TokenError>;

    /// Tells that a service refused the token, so that the next call of [`token`](Self::token) gives another one.
    fn refused(&self, token: &BearerToken);
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The identity service knows no such key or profile, or refuses it.
    #[error("the identity service refuses the credentials")]
    Refused {
        /// What it said.
        source: Cause,
    },
    /// The identity service does not answer as it should.
    #[error("{endpoint} gives no token")]
    Failed {
        /// Which one was asked, as a URL.
        endpoint: String,
        /// In which way it does not.
        fault: TokenFault,
        /// What went wrong.
        source: Cause,
    },
    /// There is nothing with which one could be asked for: a file that is to prove who asks is not there or of no use.
    #[error("there is nothing to ask for a token with")]
    Unproven {
        /// What is wrong with it.
        source: Cause,
    },
}

/// In which way an identity service does not answer as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFault {
    /// It is busy, or the connection broke, for as long as it was asked.
    Unavailable,
    /// No connection could be made: the name is not known, or nobody listens.
    Unreachable,
    /// No secure connection could be made.
    Tls,
    /// What answers is no identity service.
    NotIdentity,
}
