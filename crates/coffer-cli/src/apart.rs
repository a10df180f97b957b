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
    /// The root key that the bucket is encrypted under: its CRN, or its id alone, as the store has it.
    pub(crate) root_key: Option<String>,
}

/// A key slot that a key service opens.
#[derive(Debug, Clone)]
pub(crate) struct ServiceSlot {
    name: String,
    /// Id of the root key.
    key: String,
    /// CRN of the root key, if the slot has it.
    crn: Option<String>,
}

impl ServiceSlot {
    /// The slot, if a root key in a key service opens it.
    pub(crate) fn of(name: String, kind: &SlotKind) -> Option<Self> {
        let SlotKind::Service(key) = kind else { return None };
        Some(Self { name, key: key.key.clone(), crn: key.crn.clone() })
    }

    fn service(&self) -> Option<KeyService<'_>> {
        KeyService::of(self.crn.as_deref()?)
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

/// The key service of a bucket's root key. An id alone does not say which one it is in, but that of a slot does if it is the same key.
fn service_of<'a>(root_key: &'a str, slots: &'a [ServiceSlot]) -> Option<KeyService<'a>> {
    let same = || slots.iter().find(|slot| slot.key.eq_ignore_ascii_case(root_key));
    KeyService::of(root_key).or_else(|| same()?.service())
}

/// What two locations have in common, if one loss may reach both: the region, or the wider one if a bucket there is spread over the
/// regions of its geography.
fn common<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if one == other {
        return Some(one);
    }
    let reaches = |wide: &str, narrow: &str| {
        let countries: &[&str] = match wide {
            "eu" => &["eu"],
            "us" => &["us"],
            "ap" => &["au", "jp"],
            _ => &[],
        };
        narrow.split_once('-').is_some_and(|(country, _)| countries.contains(&country))
    };
    [(one, other), (other, one)]
        .into_iter()
        .find(|(wide, narrow)| reaches(wide, narrow))
        .map(|(wide, _)| wide)
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
    // The narrowest first: what each of the others has in common with it is where they all are.
    let narrow = regions.iter().copied().max_by_key(|region| region.len());
    let shared = narrow.filter(|narrow| {
        regions.len() == sites.len() && regions.iter().all(|one| common(one, narrow).is_some())
    });
    let widest = regions.iter().copied().min_by_key(|region| region.len());
    if let (Some(region), true) = (shared.and(widest), sites.len() > 1) {
        warnings.push(format!(
            "all {} stores are in {region}: what befalls that region befalls every copy; keep one elsewhere",
            sites.len()
        ));
    }
    for site in sites {
        let key = site.root_key.as_deref().and_then(|key| service_of(key, slots));
        if let (Some(root_key), None, false) = (&site.root_key, key, slots.is_empty()) {
            warnings.push(format!(
                "{} is encrypted under root key {root_key}, of which the store does not say the key service: see to it that it is \
                 none of those that key slots hang on",
                site.url
            ));
        }
        if let (Some(key), Some(region)) = (key, site.location.as_deref().map(region_of))
            && common(key.region, region).is_some()
            && (sites.len() == 1 || shared.is_some())
        {
            warnings.push(format!(
                "{} and its root key are both in {}: if that region is lost, so are the data and the key to them",
                site.url,
                common(key.region, region).unwrap_or(region)
            ));
        }
        for slot in slots {
            if key.is_some() && key == slot.service() {
                warnings.push(format!(
                    "{} is encrypted under a root key of the same key service that key slot {} hangs on: whoever loses or \
                     disables that instance has neither; add a slot of another kind",
                    site.url, slot.name
                ));
            }
        }
    }
    let home = shared.or_else(|| (sites.len() == 1).then(|| regions.first().copied()).flatten());
    let of_slots: Vec<_> = slots.iter().filter_map(|slot| Some(slot.service()?.region)).collect();
    if let Some(region) = home
        && !of_slots.is_empty()
        && of_slots.len() == slots.len()
        && of_slots.iter().all(|one| common(one, region).is_some())
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
            key: crn.rsplit(':').next().unwrap_or_default().into(),
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

    /// The store may tell the id of the key alone.
    #[test]
    fn a_bare_key_id_is_compared_or_said_to_be_unknown() {
        check(
            &[site("a", "us-south-standard", Some("2222"))],
            &[slot(KEY)],
            &["same key service that key slot 5f0c"],
        );
        check(
            &[site("a", "eu-de-standard", Some("2222"))],
            &[slot(KEY), slot(OTHER)],
            &["both in eu-de", "same key service"],
        );
        check(
            &[site("a", "us-south-standard", Some("9999"))],
            &[slot(KEY)],
            &["root key 9999, of which the store does not say the key service"],
        );
        check(&[site("a", "us-south-standard", Some("9999"))], &[], &[]);
    }

    #[test]
    fn a_cross_region_location_shares_what_befalls_its_regions() {
        check(
            &[site("a", "eu-smart", None), site("b", "eu-de-standard", None)],
            &[],
            &["all 2 stores are in eu:"],
        );
        check(&[site("a", "ap-standard", None), site("b", "jp-tok-smart", None)], &[], &["are in ap:"]);
        for other in ["us-south-standard", "ams03-standard", "us-smart", "ca-tor-standard"] {
            check(&[site("a", "eu-standard", None), site("b", other, None)], &[], &[]);
        }
        // Two regions of one geography are apart, whatever a third store reaches over.
        check(
            &[site("a", "eu", None), site("b", "eu-de-smart", None), site("c", "eu-gb-smart", None)],
            &[],
            &[],
        );
        check(&[site("a", "eu-standard", Some(KEY))], &[], &["both in eu:"]);
        check(&[site("a", "eu-standard", None)], &[slot(KEY)], &["every key service"]);
    }
}
