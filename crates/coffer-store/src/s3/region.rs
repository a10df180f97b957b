//! The region that a bucket is asked in.
//!
//! A store that is asked for a bucket of another region says which it is. That is followed once, unless the operator chose the
//! region: then he is told. Where the endpoint follows from the region, as on AWS, the endpoint changes with it; elsewhere only the
//! signature does.

use std::sync::OnceLock;

use aws_sdk_s3::Client;

use super::client;
use super::clock::StoreClock;
use super::credentials::Credentials;
use super::failure::Whom;
use super::transport::Transport;
use crate::url::host_of;
use crate::{S3Location, StoreError};

/// Region of signatures where no other is known; most stores but AWS take any.
const REGION_DEFAULT: &str = "us-east-1";

/// Longest name of a region; it becomes part of a host name.
const REGION_LEN_MAX: usize = 40;

/// A bucket as it is asked in one region.
pub(super) struct Side {
    pub(super) client: Client,
    pub(super) region: String,
    pub(super) whom: Whom,
}

/// The region to begin with, and the one that the store named.
pub(super) struct Sides {
    first: Side,
    followed: OnceLock<Side>,
    /// Whether another region is followed at all.
    may_follow: bool,
    clock: StoreClock,
}

impl Sides {
    /// Begins in `region`, or in the default one.
    pub(super) fn new(
        location: &S3Location,
        endpoint: Option<&str>,
        (region, is_fixed): (Option<&str>, bool),
        credentials: &Credentials,
        transport: &Transport,
    ) -> Result<Self, StoreError> {
        let region = region.unwrap_or(REGION_DEFAULT);
        if !is_region(region) {
            let reason = "a region has letters, digits and `-`".to_owned();
            return Err(StoreError::InvalidSetting { what: "the region".to_owned(), reason });
        }
        let whom = Whom {
            store: location.url(),
            bucket: location.bucket.clone(),
            endpoint: endpoint.map_or_else(|| aws_host(region), |endpoint| host_of(endpoint).to_owned()),
            region: region.to_owned(),
        };
        let clock = StoreClock::default();
        let client = client::client(transport.clone(), region, endpoint, credentials, clock.clone());
        // Without a signature nothing would change at the same endpoint.
        let is_signed = matches!(credentials, Credentials::Keys(_));
        let may_follow = !is_fixed && (endpoint.is_none() || is_signed);
        let first = Side { client, region: region.to_owned(), whom };
        Ok(Self { first, followed: OnceLock::new(), may_follow, clock })
    }

    /// What the answers of both tell of the store's clock.
    pub(super) const fn clock(&self) -> &StoreClock {
        &self.clock
    }

    /// The one that is in force.
    pub(super) fn current(&self) -> &Side {
        self.followed.get().unwrap_or(&self.first)
    }

    /// Goes over to the region that the store named; whether asking once more is worth it.
    pub(super) fn follow(
        &self,
        region: &str,
        endpoint: Option<&str>,
        credentials: &Credentials,
        transport: &Transport,
    ) -> bool {
        if !self.may_follow || !is_region(region) || region == self.first.region {
            return false;
        }
        let side = self.followed.get_or_init(|| {
            let mut whom = self.first.whom.clone();
            whom.region = region.to_owned();
            if endpoint.is_none() {
                whom.endpoint = aws_host(region);
            }
            let client = client::client(transport.clone(), region, endpoint, credentials, self.clock.clone());
            Side { client, region: region.to_owned(), whom }
        });
        // Another request may have been led elsewhere before; nobody is sent round in circles.
        side.region == region
    }
}

fn is_region(text: &str) -> bool {
    (1..=REGION_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn aws_host(region: &str) -> String {
    format!("s3.{region}.amazonaws.com")
}
