//! What can go wrong with a service of IBM Cloud.

use std::time::Duration;

/// A failed request. It holds no secret: neither a key nor a token, nor the body that was sent.
///
/// It can be cloned, as all who waited for one token get the same answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IbmError {
    /// The service understood the request and does not do it.
    #[error("{service} refuses the request: {}", told(*.status, code, message, correlation_id))]
    Refused {
        /// Which service.
        service: String,
        /// Status of the answer.
        status: u16,
        /// The service's word for it, as `BXNIM0415E`; may be empty.
        code: String,
        /// What it said; may be empty.
        message: String,
        /// The service's id of the request, for its support; may be empty.
        correlation_id: String,
    },
    /// The service cannot serve now.
    #[error("{service} is not available: {}", told(*.status, code, message, correlation_id))]
    Busy {
        /// Which service.
        service: String,
        /// Status of the answer.
        status: u16,
        /// The service's word for it; may be empty.
        code: String,
        /// What it said; may be empty.
        message: String,
        /// The service's id of the request; may be empty.
        correlation_id: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No connection came about, or it broke.
    #[error("{service} at {host} cannot be reached: {reason}")]
    Unreachable {
        /// Which service.
        service: String,
        /// Host that was asked, with its port if one was named.
        host: String,
        /// What went wrong.
        reason: String,
        /// Whether it may pass: a name that is not known stays so.
        may_pass: bool,
        /// Whether there was a connection before it broke or went silent.
        was_connected: bool,
    },
    /// No secure connection could be made.
    #[error("no secure connection to {service} at {host} could be made: {reason}")]
    Tls {
        /// Which service.
        service: String,
        /// Host that was asked.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not what the service's interface promises.
    #[error("{service} gave an answer that has no sense: {reason}")]
    Malformed {
        /// Which service.
        service: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting, or a file that it names, is of no use.
    #[error("{what} cannot be used: {reason}")]
    InvalidSetting {
        /// Which setting or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl IbmError {
    /// Whether making the same request again may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unreachable { may_pass: true, .. })
    }

    /// How long the service asked to be left alone before the next attempt.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What was answered, without who answered; of other errors all of it.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Refused { status, code, message, correlation_id, .. }
            | Self::Busy { status, code, message, correlation_id, .. } => {
                told(*status, code, message, correlation_id)
            }
            Self::Unreachable { reason, .. } | Self::Tls { reason, .. } | Self::Malformed { reason, .. } => {
                reason.clone()
            }
            Self::InvalidSetting { .. } => self.to_string(),
        }
    }

    /// Which service it is about, if it is about one.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Refused { service, .. }
            | Self::Busy { service, .. }
            | Self::Unreachable { service, .. }
            | Self::Tls { service, .. }
            | Self::Malformed { service, .. } => Some(service),
            Self::InvalidSetting { .. } => None,
        }
    }

    /// The service's own word for why it refused; empty if there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } | Self::Busy { code, .. } => code,
            _ => "",
        }
    }

    /// Status of the answer, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Busy { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn told(status: u16, code: &str, message: &str, correlation_id: &str) -> String {
    let mut text =
        if code.is_empty() { format!("status {status}") } else { format!("{code} (status {status})") };
    if !message.is_empty() {
        text.push_str(&format!(": {message}"));
    }
    if !correlation_id.is_empty() {
        text.push_str(&format!(" [request {correlation_id}]"));
    }
    text
}
