//! What falls together: stores in one region, a store and the key to it, a bucket's own root key and a key slot.
//!
//! It says what it knows to be together. What it does not know the region of, it says nothing about.

use coffer_format::slot::SlotKind;

/// A store, as far as it is known where it and its key are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site {
    pub(crate) url: String,
    /// The region or location of the bucket, in the store's words.
    pub(crate) location: Option<String>,
    /// CRN of the root key that the bucket is encrypted under.
    pub(crate) root_key: Option<String>,
}

/// A key slot that a key service opens.
#[derive(Debug, Clone)]
pub(crate) struct ServiceSlot {
    pub(crate) name: String,
    /// CRN of the root key.
    pub(crate) crn: String,
}

impl ServiceSlot {
    /// The slot, if its parameters name a root key by a CRN.
    pub(crate) fn of(name: String, kind: &SlotKind) -> Option<Self> {
        let SlotKind::Service(key) = kind else { return None };
        Some(Self { name, crn: key.crn.clone()? })
    }
}

/// Service, region and instance of a CRN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyService<'a> {
    service: &'a str,
    region: &'a str,
    instance: &'a str,
}

impl<'a> KeyService<'a> {
    fn of(crn: &'a str) -> Option<Self> {
        let parts: Vec<_> = crn.split(':').collect();
        match parts[..] {
            ["crn", _, _, _, service, region, _, instance, ..] if !instance.is_empty() => {
                Some(Self { service, region, instance })
            }
            _ => None,
        }
    }
}

/// The region in a location constraint: `eu-de-standard` is in `eu-de`.
fn region_of(location: &str) -> &str {
    let classes = ["standard", "vault", "cold", "smart", "flex", "onerate_active"];
    classes
        .iter()
        .find_map(|class| location.strip_suffix(class)?.strip_suffix('-'))
        .filter(|region| !region.is_empty())
        .unwrap_or(location)
}

/// What should be apart and is not, in plain words.
pub(crate) fn warnings(sites: &[Site], slots: &[ServiceSlot]) -> Vec<String> {
    let mut warnings = Vec::new();
    let regions: Vec<_> = sites.iter().filter_map(|site| site.location.as_deref().map(region_of)).collect();
    let shared = regions
        .first()
        .filter(|first| regions.len() == sites.len() && regions.iter().all(|one| one == *first));
    if let (Some(region), true) = (shared, sites.len() > 1) {
        warnings.push(format!(
            "all {} stores are in {region}: what befalls that region befalls every copy; keep one elsewhere",
            sites.len()
        ));
    }
    for site in sites {
        let key = site.root_key.as_deref().and_then(KeyService::of);
        if let (Some(key), Some(region)) = (key, site.location.as_deref().map(region_of))
            && key.region == region
            && (sites.len() == 1 || shared.is_some())
        {
            warnings.push(format!(
                "{} and its root key are both in {region}: if that region is lost, so are the data and the key to them",
                site.url
            ));
        }
        for slot in slots {
            if key.is_some() && key == KeyService::of(&slot.crn) {
                warnings.push(format!(
                    "{} is encrypted under a root key of the same key service that key slot {} hangs on: whoever loses or \
                     disables that instance has neither; add a slot of another kind",
                    site.url, slot.name
                ));
            }
        }
    }
    let home = shared.copied().or_else(|| (sites.len() == 1).then(|| regions.first().copied()).flatten());
    let of_slots: Vec<_> = slots.iter().filter_map(|slot| Some(KeyService::of(&slot.crn)?.region)).collect();
    if let Some(region) = home
        && !of_slots.is_empty()
        && of_slots.iter().all(|one| *one == region)
    {
        warnings.push(format!("every key service that opens the vault is in {region}, as the data is; add a slot that is elsewhere"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use coffer_format::slot::{KeyServiceKind, ServiceKey};

    use super::*;

    const KEY: &str = "crn:v1:bluemix:public:kms:eu-de:a/1:11111111-0000-4000-8000-000000000001:key:2222";
    const OTHER: &str =
        "crn:v1:bluemix:public:kms:us-south:a/1:33333333-0000-4000-8000-000000000001:key:4444";

    fn site(url: &str, location: &str, root_key: Option<&str>) -> Site {
        Site { url: url.into(), location: Some(location.into()), root_key: root_key.map(Into::into) }
    }

    fn slot(crn: &str) -> ServiceSlot {
        let key = ServiceKey {
            service: KeyServiceKind::KeyProtect,
            endpoint: "https://eu-de.kms.cloud.ibm.com".into(),
            instance: "1111".into(),
            key: "2222".into(),
            crn: Some(crn.into()),
            version: None,
            region: None,
            ring: None,
        };
        ServiceSlot::of("5f0c".into(), &SlotKind::Service(key)).expect("a CRN")
    }

    #[track_caller]
    fn check(sites: &[Site], slots: &[ServiceSlot], expected: &[&str]) {
        let found = warnings(sites, slots);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn stores_and_keys_that_fall_together_are_named() {
        check(&[], &[], &[]);
        check(&[site("a", "eu-de-standard", None)], &[], &[]);
        check(
            &[site("a", "eu-de-standard", None), site("b", "eu-de-smart", None)],
            &[],
            &["all 2 stores are in eu-de"],
        );
        check(&[site("a", "eu-de-standard", None), site("b", "us-south-smart", None)], &[], &[]);
        check(&[site("a", "eu-de-standard", None), Site::default()], &[], &[]);
        check(&[site("a", "eu-de-standard", Some(KEY))], &[], &["both in eu-de"]);
        check(&[site("a", "us-south-standard", Some(KEY))], &[], &[]);
        check(
            &[site("a", "us-south-standard", Some(KEY))],
            &[slot(KEY)],
            &["same key service that key slot 5f0c"],
        );
        check(&[site("a", "ca-tor-standard", Some(KEY))], &[slot(OTHER)], &[]);
        check(&[site("a", "eu-de-standard", None)], &[slot(KEY)], &["every key service"]);
        check(&[site("a", "eu-de-standard", None)], &[slot(KEY), slot(OTHER)], &[]);
    }
}
