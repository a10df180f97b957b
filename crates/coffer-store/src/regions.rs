//! Where Cloud Object Storage keeps buckets, and the hosts that answer there.
//!
//! The table is the one place that knows locations; what is not in it is reached by an endpoint that is spelled out.

use std::fmt;

/// Over how much ground a bucket of a location is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resiliency {
    /// Three regions of one geography.
    CrossRegion,
    /// Three zones of one region.
    Regional,
    /// One data centre.
    SingleSite,
}

impl Resiliency {
    /// The word for it in messages and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CrossRegion => "cross-region",
            Self::Regional => "regional",
            Self::SingleSite => "single-site",
        }
    }
}

/// From which network a location is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// From anywhere.
    #[default]
    Public,
    /// From IBM's classic infrastructure; no charge for traffic.
    Private,
    /// From a virtual private cloud; no charge for traffic.
    Direct,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Public, Self::Private, Self::Direct];

    /// The word for it in flags, messages and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Direct => "direct",
        }
    }
}

/// A location of Cloud Object Storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CosLocation {
    /// Its name, as in `cos://eu-de/bucket`.
    pub name: &'static str,
    /// Over how much ground a bucket is spread.
    pub resiliency: Resiliency,
    /// City or area.
    pub place: &'static str,
}

impl CosLocation {
    /// The location of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        LOCATIONS.iter().find(|location| location.name == name)
    }

    /// The host that answers for it.
    #[must_use]
    pub fn host(&self, network: Network) -> String {
        let network = match network {
            Network::Public => "",
            Network::Private => "private.",
            Network::Direct => "direct.",
        };
        format!("s3.{network}{}.{COS_DOMAIN}", self.name)
    }
}

impl fmt::Display for CosLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Domain of every host of Cloud Object Storage.
pub(crate) const COS_DOMAIN: &str = "cloud-object-storage.appdomain.cloud";

const fn location(name: &'static str, resiliency: Resiliency, place: &'static str) -> CosLocation {
    CosLocation { name, resiliency, place }
}

/// Every location of Cloud Object Storage.
pub const LOCATIONS: &[CosLocation] = &[
    location("us", Resiliency::CrossRegion, "United States"),
    location("eu", Resiliency::CrossRegion, "Europe"),
    location("ap", Resiliency::CrossRegion, "Asia Pacific"),
    location("us-south", Resiliency::Regional, "Dallas"),
    location("us-east", Resiliency::Regional, "Washington DC"),
    location("eu-gb", Resiliency::Regional, "London"),
    location("eu-de", Resiliency::Regional, "Frankfurt"),
    location("eu-es", Resiliency::Regional, "Madrid"),
    location("au-syd", Resiliency::Regional, "Sydney"),
    location("jp-tok", Resiliency::Regional, "Tokyo"),
    location("jp-osa", Resiliency::Regional, "Osaka"),
    location("ca-tor", Resiliency::Regional, "Toronto"),
    location("ca-mon", Resiliency::Regional, "Montreal"),
    location("br-sao", Resiliency::Regional, "Sao Paulo"),
    location("in-che", Resiliency::Regional, "Chennai"),
    location("in-mum", Resiliency::Regional, "Mumbai"),
    location("ams03", Resiliency::SingleSite, "Amsterdam"),
    location("che01", Resiliency::SingleSite, "Chennai"),
    location("mon01", Resiliency::SingleSite, "Montreal"),
    location("par01", Resiliency::SingleSite, "Paris"),
    location("sjc04", Resiliency::SingleSite, "San Jose"),
    location("sng01", Resiliency::SingleSite, "Singapore"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_hosts_follow_the_network() {
        for (position, location) in LOCATIONS.iter().enumerate() {
            assert_eq!(LOCATIONS.iter().position(|other| other.name == location.name), Some(position));
            assert_eq!(CosLocation::find(location.name), Some(location));
        }
        let frankfurt = CosLocation::find("eu-de").expect("Frankfurt is in the table");
        assert_eq!(frankfurt.host(Network::Public), "s3.eu-de.cloud-object-storage.appdomain.cloud");
        assert_eq!(frankfurt.host(Network::Private), "s3.private.eu-de.cloud-object-storage.appdomain.cloud");
        assert_eq!(frankfurt.host(Network::Direct), "s3.direct.eu-de.cloud-object-storage.appdomain.cloud");
        assert_eq!(CosLocation::find("eu-central-1"), None);
    }
}
