//! What the unit tests and the vector tests share: a CBOR writer of its own, cases for each decoder, and a builder of logs.
//!
//! Nothing here uses the crate under test, so a slip in its encoder cannot hide one in its decoder.

#![allow(dead_code, reason = "each of the two test crates uses a part of it")]

pub(crate) mod cases;
pub(crate) mod cases_data;
pub(crate) mod log;
pub(crate) mod scenarios;
pub(crate) mod scenarios_damage;

/// Keys and encoded values of a map.
pub(crate) type Fields = Vec<(u64, Vec<u8>)>;

/// The shortest head of a CBOR item.
pub(crate) fn head(major: u8, value: u64) -> Vec<u8> {
    let (info, width) = match value {
        0..24 => (u8::try_from(value).unwrap(), 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    let mut out = vec![major << 5 | info];
    out.extend_from_slice(&value.to_be_bytes()[8 - width..]);
    out
}

fn item(major: u8, len: usize, content: &[u8]) -> Vec<u8> {
    [&head(major, len as u64), content].concat()
}

pub(crate) fn uint(value: u64) -> Vec<u8> {
    head(0, value)
}

pub(crate) fn int(value: i64) -> Vec<u8> {
    if value < 0 { head(1, value.unsigned_abs() - 1) } else { head(0, value.unsigned_abs()) }
}

pub(crate) fn bytes(value: &[u8]) -> Vec<u8> {
    item(2, value.len(), value)
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    item(3, value.len(), value.as_bytes())
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    item(4, items.len(), &items.concat())
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    vec![if value { 0xf5 } else { 0xf4 }]
}

/// A map with the keys in the order given, right or wrong.
pub(crate) fn map(fields: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let content: Vec<u8> =
        fields.iter().flat_map(|(key, value)| [uint(*key), value.clone()].concat()).collect();
    item(5, fields.len(), &content)
}

/// `fields` with `key` set, or without it.
pub(crate) fn with(fields: &[(u64, Vec<u8>)], key: u64, value: Option<Vec<u8>>) -> Fields {
    let mut fields: Fields = fields.iter().filter(|field| field.0 != key).cloned().collect();
    fields.extend(value.map(|value| (key, value)));
    fields.sort_by_key(|field| field.0);
    fields
}

/// 32 bytes that stand for `label`.
pub(crate) fn id(label: &str) -> [u8; 32] {
    *blake3::hash(label.as_bytes()).as_bytes()
}

/// The name of a dedup domain of epoch 0.
pub(crate) fn domain(label: &str) -> [u8; 16] {
    let mut domain = [0; 16];
    domain[4..].copy_from_slice(&id(label)[..12]);
    domain
}

/// An array of byte strings, sorted.
pub(crate) fn names<const N: usize>(names: &[[u8; N]]) -> Vec<u8> {
    let mut names = names.to_vec();
    names.sort_unstable();
    array(&names.iter().map(|name| bytes(name)).collect::<Vec<_>>())
}

/// Bytes for a decoder, and what it says of them.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The rule that the bytes break; `None` if they are sound.
    pub(crate) fault: Option<&'static str>,
    /// What the decoder is told besides the bytes.
    pub(crate) parameters: Vec<(&'static str, u64)>,
}

impl Case {
    pub(crate) fn parameter(&self, name: &str) -> u64 {
        self.parameters.iter().find(|parameter| parameter.0 == name).expect("the case has this parameter").1
    }
}

/// A list of cases for one decoder.
#[derive(Debug, Default)]
pub(crate) struct Cases {
    pub(crate) all: Vec<Case>,
    parameters: Vec<(&'static str, u64)>,
}

impl Cases {
    /// What the decoder is told for the cases added from here on.
    pub(crate) fn given(&mut self, parameters: &[(&'static str, u64)]) {
        self.parameters = parameters.to_vec();
    }

    pub(crate) fn ok(&mut self, name: &str, bytes: Vec<u8>) {
        self.add(name, bytes, None);
    }

    pub(crate) fn bad(&mut self, name: &str, bytes: Vec<u8>, rule: &'static str) {
        self.add(name, bytes, Some(rule));
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>, fault: Option<&'static str>) {
        let (name, parameters) = (name.to_owned(), self.parameters.clone());
        self.all.push(Case { name, bytes, fault, parameters });
    }
}
