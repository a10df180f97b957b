//! Builds logs record by record, with the outcome that each must have.

use super::cases::{header_fields, header_object, record_object, segment};
use super::{Fields, array, bytes, domain, id, int, map, names, uint, with};

/// Length of the bodies in the logs built here: a sealed body of the least length.
const BODY_LEN: usize = 32 + 1120 + 32 + 512 + 16;

/// Makes keys and signatures for names of signers.
pub(crate) trait Sign {
    fn key(&self, name: &str) -> [u8; 32];
    fn sign(&self, name: &str, public: &[u8]) -> [u8; 64];
}

/// A log with the outcomes that its records must have.
pub(crate) struct Log<'s> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) header: Vec<u8>,
    pub(crate) vault: [u8; 32],
    /// Records by number; `None` is missing.
    pub(crate) records: Vec<Option<Vec<u8>>>,
    /// `effective`, `missing`, or the reason for which it is void.
    pub(crate) outcomes: Vec<&'static str>,
    /// Chain values by number, zeros for a missing record.
    pub(crate) chains: Vec<[u8; 32]>,
    pub(crate) term: u64,
    pub(crate) home: [u8; 16],
    pub(crate) sign: &'s dyn Sign,
}

/// A record that is not signed yet.
#[derive(Clone)]
pub(crate) struct Rec {
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    signer: String,
}

impl<'s> Log<'s> {
    /// A log without records; the vault's owner is the signer `owner`.
    pub(crate) fn empty(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Self {
        let header = header_object(&header_fields(&sign.key("owner"), name));
        let vault = *blake3::hash(&header).as_bytes();
        let (records, outcomes, chains) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, about, header, vault, records, outcomes, chains, term: 0, home: [0; 16], sign }
    }

    /// A log with record 0.
    pub(crate) fn new(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Self {
        let mut log = Self::empty(sign, name, about);
        let genesis = log.genesis();
        log.push(&genesis, "effective");
        log
    }

    /// Record 0.
    pub(crate) fn genesis(&self) -> Rec {
        self.rec(9).set(12, names(&[id("slot 1")])).details(&[(1, bytes(&self.header))])
    }

    pub(crate) fn next(&self) -> u64 {
        self.records.len() as u64
    }

    /// A record of `kind` by the owner that comes next.
    pub(crate) fn rec(&self, kind: u64) -> Rec {
        self.rec_at(self.next(), self.chains.last().copied().unwrap_or_default(), kind)
    }

    /// A record for another place.
    pub(crate) fn rec_at(&self, number: u64, previous: [u8; 32], kind: u64) -> Rec {
        let fields = vec![
            (1, bytes(&self.vault)),
            (2, uint(number)),
            (3, uint(self.term)),
            (4, bytes(&previous)),
            (6, uint(kind)),
            (7, uint(0)),
            (8, int(1_700_000_000 + i64::try_from(number).unwrap())),
        ];
        let rec = Rec { fields, body: Vec::new(), signer: "owner".to_owned() };
        if self.home == [0; 16] { rec } else { rec.set(15, bytes(&self.home)) }
    }

    /// A snapshot in the owner's domain that adds these segments.
    pub(crate) fn snapshot(&self, segments: &[&str]) -> Rec {
        let rec = self.rec(1).body();
        if segments.is_empty() { rec } else { rec.segments(segments, [0; 16]) }
    }

    /// A record with details and a body.
    pub(crate) fn with_details(&self, kind: u64, details: &[(u64, Vec<u8>)]) -> Rec {
        self.rec(kind).details(details).body()
    }

    /// A forget, unforget, hold (with `held`) or tag.
    pub(crate) fn about(&self, kind: u64, snapshots: &[[u8; 32]], held: Option<bool>) -> Rec {
        let mut details = vec![(1, names(snapshots))];
        details.extend(held.map(|held| (2, super::boolean(held))));
        self.with_details(kind, &details)
    }

    pub(crate) fn enrol(&self, name: &str, role: u64, domains: &[[u8; 16]]) -> Rec {
        let key = self.sign.key(name);
        self.with_details(11, &[(1, uint(1)), (2, bytes(&key)), (3, uint(role)), (4, names(domains))])
    }

    pub(crate) fn revoke(&self, name: &str) -> Rec {
        self.with_details(11, &[(1, uint(2)), (2, bytes(&self.sign.key(name)))])
    }

    pub(crate) fn prune(&self, base: u64, removed: &[&str], orphans: &[Vec<u8>]) -> Rec {
        let rec = self.with_details(7, &[(1, uint(base)), (2, array(orphans))]);
        if removed.is_empty() { rec } else { rec.set(11, labels(removed)) }
    }

    pub(crate) fn sweep(&self, base: u64, segments: &[&str], packs: &[&str]) -> Rec {
        self.rec(8).details(&[(1, uint(base)), (2, labels(segments)), (3, labels(packs))])
    }

    /// The object of a record.
    pub(crate) fn object(&self, rec: &Rec) -> Vec<u8> {
        let public = map(&with(&rec.fields, 5, Some(bytes(&self.sign.key(&rec.signer)))));
        let mut object = record_object(&public, &rec.body);
        let signature = object.len() - 64;
        object[signature..].copy_from_slice(&self.sign.sign(&rec.signer, &public));
        object
    }

    /// Appends a record and returns its chain value.
    pub(crate) fn push(&mut self, rec: &Rec, outcome: &'static str) -> [u8; 32] {
        let object = self.object(rec);
        self.push_object(object, outcome)
    }

    /// Appends any bytes.
    pub(crate) fn push_object(&mut self, object: Vec<u8>, outcome: &'static str) -> [u8; 32] {
        let chain = *blake3::hash(&object).as_bytes();
        self.records.push(Some(object));
        self.chains.push(chain);
        self.outcomes.push(outcome);
        chain
    }

    /// Puts other bytes, or none, where a record stands; records after it keep what they were chained to.
    pub(crate) fn replace(&mut self, number: usize, object: Option<Vec<u8>>, outcome: &'static str) {
        self.records[number] = object;
        self.outcomes[number] = outcome;
    }
}

impl Rec {
    pub(crate) fn by(mut self, signer: &str) -> Self {
        signer.clone_into(&mut self.signer);
        self
    }

    pub(crate) fn set(mut self, key: u64, value: Vec<u8>) -> Self {
        self.fields = with(&self.fields, key, Some(value));
        self
    }

    pub(crate) fn unset(mut self, key: u64) -> Self {
        self.fields = with(&self.fields, key, None);
        self
    }

    pub(crate) fn details(self, details: &[(u64, Vec<u8>)]) -> Self {
        self.set(16, map(details))
    }

    /// Gives it a body sealed with the PSK of the owner's domain.
    pub(crate) fn body(self) -> Self {
        self.body_of([0; 16])
    }

    pub(crate) fn body_of(mut self, domain: [u8; 16]) -> Self {
        self.body = vec![0xb0; BODY_LEN];
        let hash = bytes(blake3::hash(&self.body).as_bytes());
        self.set(9, hash).set(13, bytes(&domain)).set(14, uint(0))
    }

    /// Adds segments named after these labels.
    pub(crate) fn segments(self, labels: &[&str], domain: [u8; 16]) -> Self {
        let mut ids: Vec<_> = labels.iter().map(|label| id(label)).collect();
        ids.sort_unstable();
        let rows: Vec<_> = ids.iter().map(|id| segment(id, 1000, &domain)).collect();
        self.set(10, array(&rows))
    }
}

/// An array of the names that stand for these labels.
pub(crate) fn labels(labels: &[&str]) -> Vec<u8> {
    names(&labels.iter().map(|label| id(label)).collect::<Vec<_>>())
}

/// The domain that the signers of role `put` use.
pub(crate) fn put_domain() -> [u8; 16] {
    domain("put")
}
