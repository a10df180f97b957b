//! Cases for CBOR, headers, slots, records and their details.

use super::{Cases, Fields, array, boolean, bytes, domain, head, id, int, map, names, text, uint, with};

const ABSENT: &str = "a key is absent";
const LEFT: &str = "bytes left over at the end";
const SHORT: &str = "it ends too early";
const OVER: &str = "over the limit";
const UINT: &str = "an unsigned integer is expected";
const ORDER: &str = "map keys are not ascending";
const BYTES_SHORT: &str = "a byte string is shorter than it must be";
const BYTES_LONG: &str = "a byte string is over its limit";
const EMPTY_LIST: &str = "an empty list is written by leaving it out";
const NAMES_ORDER: &str = "names are not ascending";

/// One CBOR value alone.
pub(crate) fn cbor() -> Cases {
    let shortest = "a number is not in its shortest form";
    let indefinite = "indefinite lengths are not allowed";
    let not_bool = "a truth value is expected";
    let deep = "it is nested too deeply";
    let mut c = Cases::default();
    c.ok("uint 0", vec![0]);
    c.ok("uint of 64 bits", head(0, u64::MAX));
    c.ok("least negative integer", int(i64::MIN));
    c.ok("false", vec![0xf4]);
    c.ok(
        "map of all types",
        map(&[(0, int(-1)), (23, bytes(b"b")), (24, text("ä")), (1 << 40, array(&[boolean(true)]))]),
    );
    c.ok("23 keys", map(&(0..23).map(|key| (key, uint(key))).collect::<Vec<_>>()));
    c.ok("16 levels of arrays", [vec![0x81; 15], vec![0x80]].concat());
    c.ok("16 levels of arrays around a number", [vec![0x81; 16], vec![0]].concat());
    c.ok("16 levels of maps", [[0xa1, 0].repeat(16), vec![0]].concat());
    c.ok("text at the limit", text(&"x".repeat(65_536)));
    for (name, hex) in [
        ("23 in one byte more", vec![0x18, 23]),
        ("255 in two bytes", vec![0x19, 0, 255]),
        ("65535 in four bytes", vec![0x1a, 0, 0, 255, 255]),
        ("2^32-1 in eight bytes", vec![0x1b, 0, 0, 0, 0, 255, 255, 255, 255]),
        ("negative", vec![0x38, 0]),
        ("length of a byte string", vec![0x58, 1, 0]),
        ("length of a text string", vec![0x78, 1, 0x61]),
        ("count of an array", vec![0x98, 1, 0]),
        ("count of a map", vec![0xb8, 1, 0, 0]),
        ("map key", vec![0xa1, 0x18, 1, 0]),
    ] {
        c.bad(&format!("not the shortest form: {name}"), hex, shortest);
    }
    for major in [2_u8, 3, 4, 5] {
        c.bad(&format!("indefinite length, major type {major}"), vec![major << 5 | 31, 0xff], indefinite);
    }
    for info in 28..32_u8 {
        c.bad(&format!("reserved head {info}"), vec![info], indefinite);
    }
    for (name, bytes) in [
        ("float of 16 bits", vec![0xf9, 0, 0]),
        ("float of 32 bits", vec![0xfa, 0, 0, 0, 0]),
        ("float of 64 bits", vec![0xfb, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("null", vec![0xf6]),
        ("undefined", vec![0xf7]),
        ("simple value 0", vec![0xe0]),
        ("simple value 32", vec![0xf8, 32]),
        ("false in two bytes", vec![0xf8, 20]),
        ("break", vec![0xff]),
    ] {
        c.bad(name, bytes, not_bool);
    }
    c.bad("tag", vec![0xc0, 0], "tags are not allowed");
    c.bad("tag inside a map", vec![0xa1, 1, 0xd8, 42, 0], "tags are not allowed");
    c.bad("negative integer below 63 bits", head(1, 1 << 63), "a number is above 63 bits");
    c.bad("keys out of order", map(&[(2, uint(0)), (1, uint(0))]), ORDER);
    c.bad("key twice", map(&[(1, uint(0)), (1, uint(0))]), ORDER);
    c.bad("negative key", vec![0xa1, 0x20, 0], "map keys are unsigned integers");
    c.bad("text key", vec![0xa1, 0x61, 0x61, 0], "map keys are unsigned integers");
    c.bad(
        "24 keys",
        map(&(0..24).map(|key| (key, uint(key))).collect::<Vec<_>>()),
        "a map has too many keys",
    );
    c.bad("17 levels of arrays", [vec![0x81; 16], vec![0x80]].concat(), deep);
    c.bad("17 levels of maps", [[0xa1, 0].repeat(16), vec![0xa0]].concat(), deep);
    c.bad("text that is not UTF-8", vec![0x61, 0xff], "a text string is not UTF-8");
    c.bad("text that is half of a surrogate", vec![0x63, 0xed, 0xa0, 0x80], "a text string is not UTF-8");
    c.bad("text over the limit", text(&"x".repeat(65_537)), "a text string is over its limit");
    c.bad("two values", vec![0, 0], LEFT);
    c.bad("nothing", Vec::new(), SHORT);
    c.bad("half of a number", vec![0x19, 1], SHORT);
    c.bad("byte string that ends early", vec![0x42, 0], SHORT);
    c.bad("byte string of 2^64-1", head(2, u64::MAX), SHORT);
    c.bad("array longer than the bytes", vec![0x82, 0], "an array is over its limit");
    c.bad("array of 2^64-1", head(4, u64::MAX), "an array is over its limit");
    c.bad("map without its last value", vec![0xa1, 1], SHORT);
    c
}

pub(crate) const HEADER_MAGIC: &[u8; 16] = b"coffer vault\n\0\0\x01";

/// The map of a header whose owner has this key.
pub(crate) fn header_fields(owner: &[u8; 32], label: &str) -> Fields {
    vec![
        (1, uint(1)),
        (2, uint(0)),
        (3, uint(1)),
        (4, array(&[uint(1), uint(524_288), uint(20), uint(8_388_608)])),
        (5, uint(1)),
        (6, bytes(&[0x5e; 1216])),
        (7, bytes(owner)),
        (8, bytes(&id(label))),
    ]
}

pub(crate) fn header_object(fields: &[(u64, Vec<u8>)]) -> Vec<u8> {
    [HEADER_MAGIC.to_vec(), map(fields)].concat()
}

pub(crate) fn header() -> Cases {
    let base = header_fields(&id("owner"), "header");
    let set = |key, value: Vec<u8>| header_object(&with(&base, key, Some(value)));
    let chunker = |numbers: [u64; 4]| set(4, array(&numbers.map(uint)));
    let mut c = Cases::default();
    c.ok("header", header_object(&base));
    c.ok("header with fixed chunks", chunker([2, 4096, 0, 4096]));
    c.ok("header with the least pcc chunker", chunker([1, 64, 6, 320]));
    c.ok("header with the greatest pcc chunker", chunker([1, 16_776_960, 30, 16_777_216]));
    c.ok("header of store mode 2", set(5, uint(2)));
    c.ok("header of store mode 3", set(5, uint(3)));
    c.ok("header with a key to skip", set(9, array(&[text("later")])));
    for key in 1..=8 {
        c.bad(&format!("header without key {key}"), header_object(&with(&base, key, None)), ABSENT);
    }
    let mut other = header_object(&base);
    other[15] = 2;
    c.bad("header of another major version in its magic", other, "version");
    let mut other = header_object(&base);
    other[0] ^= 1;
    c.bad("header with another magic", other, "it does not begin as a vault header does");
    c.bad("header of another major version", set(1, uint(2)), "version");
    c.bad("header of a later minor version", set(2, uint(1)), "version");
    c.bad("header of another suite", set(3, uint(2)), "the suite is not known");
    c.bad("store mode 0", set(5, uint(0)), "the store mode is not known");
    c.bad("store mode 4", set(5, uint(4)), "the store mode is not known");
    c.bad(
        "chunker of three numbers",
        set(4, array(&[uint(1), uint(64), uint(6)])),
        "the chunker has four numbers",
    );
    c.bad("chunker of five numbers", set(4, array(&vec![uint(1); 5])), "an array is over its limit");
    c.bad("chunker 3", chunker([3, 64, 6, 320]), "the chunker is not known");
    c.bad("fixed chunks of two lengths", chunker([2, 4096, 0, 8192]), "the chunker is not known");
    c.bad("fixed chunks with bits", chunker([2, 4096, 1, 4096]), "the chunker is not known");
    let fixed = "the chunk length is not within 64 bytes and the limit";
    c.bad("fixed chunks over the limit", chunker([2, 16_777_217, 0, 16_777_217]), fixed);
    c.bad("pcc with a min of 63", chunker([1, 63, 6, 320]), "the shortest chunk is below 64 bytes");
    let close = "the longest chunk is not 256 bytes above the shortest";
    c.bad("pcc with a max too close to min", chunker([1, 64, 6, 319]), close);
    c.bad(
        "pcc with a max over the limit",
        chunker([1, 64, 6, 16_777_217]),
        "the longest chunk is over the limit",
    );
    c.bad("pcc with 5 bits", chunker([1, 64, 5, 320]), "the chunker's bits are not within 6 to 30");
    c.bad("pcc with 31 bits", chunker([1, 64, 31, 320]), "the chunker's bits are not within 6 to 30");
    c.bad("pcc with a min above 32 bits", chunker([1, 1 << 32, 6, 320]), "a number is above 32 bits");
    c.bad("sealing key of 1215 bytes", set(6, bytes(&[1; 1215])), BYTES_SHORT);
    c.bad("sealing key of 1217 bytes", set(6, bytes(&[1; 1217])), BYTES_LONG);
    c.bad("owner key of 31 bytes", set(7, bytes(&[1; 31])), BYTES_SHORT);
    c.bad("major version as text", set(1, text("1")), UINT);
    c.bad("header and a byte", [header_object(&base), vec![0]].concat(), LEFT);
    c.bad("magic alone", HEADER_MAGIC.to_vec(), "a map is expected");
    c.bad("empty header", Vec::new(), "it does not begin as a vault header does");
    c.bad("header over the limit", set(9, bytes(&[0; 7_000])), OVER);
    let mut swapped = base.clone();
    swapped.swap(6, 7);
    c.bad("header with keys out of order", header_object(&swapped), ORDER);
    c
}

pub(crate) fn slot_fields() -> Fields {
    vec![
        (1, bytes(&id("vault"))),
        (2, uint(0)),
        (3, uint(1)),
        (4, uint(2)),
        (5, text("laptop")),
        (6, int(1_700_000_000)),
        (7, map(&[(1, bytes(&[7; 8]))])),
        (8, bytes(&id("salt"))),
        (9, bytes(&id("commitment"))),
        (10, bytes(&[5; 80])),
    ]
}

pub(crate) fn slot() -> Cases {
    let base = slot_fields();
    let set = |key, value: Vec<u8>| map(&with(&base, key, Some(value)));
    let passphrase = vec![(1, uint(65_536)), (2, uint(3)), (3, uint(4)), (4, bytes(&[9; 16]))];
    let kind1 = |parameters: &Fields| map(&with(&with(&base, 4, Some(uint(1))), 7, Some(map(parameters))));
    let service = with(&with(&with(&base, 8, None), 9, None), 4, Some(uint(3)));
    let place = vec![(1, text("https://kms.example")), (2, text("i")), (3, text("k"))];
    let kind3 = |parameters: &Fields| map(&with(&service, 7, Some(map(parameters))));
    let mut c = Cases::default();
    c.ok("slot of kind 2", map(&base));
    c.ok("slot of kind 1", kind1(&passphrase));
    c.ok("slot of kind 3", kind3(&place));
    let whole = (4..8).fold(place.clone(), |place, key| with(&place, key, Some(text("more"))));
    c.ok("slot of kind 3 with all parameters", kind3(&whole));
    c.ok("slot of kind 3 with a parameter to keep", kind3(&with(&whole, 8, Some(text("later")))));
    for key in 1..=3 {
        c.bad(&format!("service slot without parameter {key}"), kind3(&with(&place, key, None)), ABSENT);
    }
    for key in 4..=7 {
        let empty = kind3(&with(&place, key, Some(text(""))));
        c.bad(
            &format!("service slot with an empty parameter {key}"),
            empty,
            "an empty value is written by leaving it out",
        );
    }
    let long = with(&place, 1, Some(text(&"x".repeat(1025))));
    c.bad("service slot with a text of 1025 bytes", kind3(&long), "a text string is over its limit");
    let service = with(&service, 7, Some(map(&place)));
    let token = vec![
        (1, text("hsm")),
        (2, text("1f9d")),
        (3, text("coffer")),
        (4, bytes(&[1, 2])),
        (5, uint(0x1085)),
        (6, bytes(&[3; 16])),
        (7, bytes(&[4; 32])),
    ];
    let kind5 = |parameters: &Fields| map(&with(&with(&service, 4, Some(uint(5))), 7, Some(map(parameters))));
    c.ok("slot of kind 5", kind5(&token));
    c.ok("slot of kind 5 without IV and MAC", kind5(&with(&with(&token, 6, None), 7, None)));
    c.ok(
        "slot of kind 5 with empty names",
        kind5(&with(&with(&token, 3, Some(text(""))), 4, Some(bytes(&[])))),
    );
    c.ok("slot of kind 5 with another mechanism", kind5(&with(&token, 5, Some(uint(u64::MAX)))));
    c.ok("slot of kind 5 with a parameter to keep", kind5(&with(&token, 9, Some(text("later")))));
    let wraps = with(&with(&token, 5, Some(uint(0x210b))), 8, Some(bytes(&[5; 16])));
    c.ok("slot of kind 5 with a salt in place of IV and MAC", kind5(&with(&with(&wraps, 6, None), 7, None)));
    for key in 1..=5 {
        c.bad(&format!("token slot without parameter {key}"), kind5(&with(&token, key, None)), ABSENT);
    }
    let token_with = |key, value| kind5(&with(&token, key, Some(value)));
    c.bad("token slot with a key id of 1025 bytes", token_with(4, bytes(&[1; 1025])), BYTES_LONG);
    c.bad("token slot with an IV of 17 bytes", token_with(6, bytes(&[3; 17])), BYTES_LONG);
    c.bad("token slot with an empty IV", token_with(6, bytes(&[])), "its IV is empty");
    c.bad("token slot with a MAC of 31 bytes", token_with(7, bytes(&[4; 31])), BYTES_SHORT);
    c.bad("token slot with a salt of 15 bytes", token_with(8, bytes(&[5; 15])), BYTES_SHORT);
    c.bad("token slot with a salt of 17 bytes", token_with(8, bytes(&[5; 17])), BYTES_LONG);
    c.bad("token slot with an empty salt", token_with(8, bytes(&[])), BYTES_SHORT);
    let shares = vec![(1, bytes(&[1; 8])), (2, uint(2)), (3, uint(3)), (4, bytes(&[6; 48]))];
    let kind6 = |parameters: &Fields| map(&with(&with(&base, 4, Some(uint(6))), 7, Some(map(parameters))));
    let shares_with = |key, value| kind6(&with(&shares, key, Some(value)));
    c.ok("slot of kind 6", kind6(&shares));
    c.ok("slot of kind 6 that needs all of its shares", shares_with(2, uint(3)));
    c.ok("slot of kind 6 with a parameter to keep", shares_with(5, text("later")));
    for key in 1..=4 {
        c.bad(&format!("shares slot without parameter {key}"), kind6(&with(&shares, key, None)), ABSENT);
    }
    for (threshold, what) in
        [(0, "nothing"), (1, "one share"), (4, "more shares than there are"), (258, "far more")]
    {
        let name = format!("shares slot that needs {what}");
        c.bad(&name, shares_with(2, uint(threshold)), "its threshold does not fit its shares");
    }
    let count = "its digests are not as many as its shares";
    c.bad("shares slot with a digest too few", shares_with(3, uint(4)), count);
    c.bad("shares slot with half a digest", shares_with(4, bytes(&[6; 40])), count);
    c.bad("shares slot with 65 shares", shares_with(4, bytes(&[6; 16 * 65])), BYTES_LONG);
    c.ok("slot with an empty label", set(5, text("")));
    c.ok("slot made before 1970", set(6, int(-1)));
    c.ok("slot of the reader secret", set(3, uint(2)));
    c.ok("slot with keys to keep", map(&with(&with(&base, 0, Some(uint(7))), 11, Some(boolean(true)))));
    c.ok("slot with a parameter to keep", kind1(&with(&passphrase, 5, Some(text("later")))));
    for key in [1, 2, 3, 4, 5, 6, 7, 10] {
        c.bad(&format!("slot without key {key}"), map(&with(&base, key, None)), ABSENT);
    }
    let both = "salt and commitment belong to kinds 1, 2 and 6 alone";
    c.bad("slot of kind 2 without salt", map(&with(&base, 8, None)), both);
    c.bad("slot of kind 2 without commitment", map(&with(&base, 9, None)), both);
    c.bad("slot of kind 3 with salt", map(&with(&service, 8, Some(bytes(&[0; 32])))), both);
    c.bad("slot of kind 3 with commitment", map(&with(&service, 9, Some(bytes(&[0; 32])))), both);
    c.bad("slot of kind 0", set(4, uint(0)), "the kind is not known");
    c.bad("slot of kind 8", set(4, uint(8)), "the kind is not known");
    c.bad("slot of purpose 0", set(3, uint(0)), "the purpose is not known");
    c.bad("slot of purpose 3", set(3, uint(3)), "the purpose is not known");
    c.bad(
        "slot with a label of 257 bytes",
        set(5, text(&"x".repeat(257))),
        "a text string is over its limit",
    );
    c.bad("slot with a label of bytes", set(5, bytes(b"x")), "a text string is expected");
    c.bad("slot with a wrapped key of 4097 bytes", set(10, bytes(&[0; 4097])), BYTES_LONG);
    c.bad("slot with a salt of 31 bytes", set(8, bytes(&[0; 31])), BYTES_SHORT);
    c.bad("slot with parameters in an array", set(7, array(&[])), "a map is expected");
    c.bad("key file slot without its key id", set(7, map(&[])), ABSENT);
    c.bad("key file slot with a key id of 9 bytes", set(7, map(&[(1, bytes(&[0; 9]))])), BYTES_LONG);
    for key in 1..=4 {
        c.bad(
            &format!("passphrase slot without parameter {key}"),
            kind1(&with(&passphrase, key, None)),
            ABSENT,
        );
    }
    c.bad("slot and a byte", [map(&base), vec![0]].concat(), LEFT);
    c.bad("slot over the limit", set(11, bytes(&[0; 16_384])), OVER);
    c.bad("slot with time above 63 bits", set(6, uint(1 << 63)), "a number is above 63 bits");
    c.bad(
        "slot nested too deeply",
        set(11, [vec![0x81; 15], vec![0x80]].concat()),
        "it is nested too deeply",
    );
    c
}

/// A record object of these parts, with a signature that means nothing.
pub(crate) fn record_object(public: &[u8], body: &[u8]) -> Vec<u8> {
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap().to_le_bytes();
    [b"cofflog1".as_slice(), &len(public), &len(body), public, body, &[0x55; 64]].concat()
}

pub(crate) fn segment(name: &[u8; 32], len: u64, domain: &[u8; 16]) -> Vec<u8> {
    array(&[bytes(name), uint(len), bytes(domain)])
}

pub(crate) fn record_fields(body: &[u8]) -> Fields {
    let (mut a, mut b) = (id("segment a"), id("segment b"));
    if a > b {
        std::mem::swap(&mut a, &mut b);
    }
    vec![
        (1, bytes(&id("vault"))),
        (2, uint(5)),
        (3, uint(0)),
        (4, bytes(&id("previous"))),
        (5, bytes(&id("signer"))),
        (6, uint(1)),
        (7, uint(0)),
        (8, int(1_700_000_000)),
        (9, bytes(blake3::hash(body).as_bytes())),
        (10, array(&[segment(&a, 4096, &domain("d")), segment(&b, 268_435_456, &domain("d"))])),
        (13, bytes(&domain("d"))),
        (14, uint(0)),
    ]
}

pub(crate) fn record() -> Cases {
    let body = [3; 1712];
    let base = record_fields(&body);
    let set = |key, value: Vec<u8>| record_object(&map(&with(&base, key, Some(value))), &body);
    let bare = with(&with(&with(&with(&base, 9, None), 10, None), 13, None), 14, None);
    let mut c = Cases::default();
    c.ok("record with a body", record_object(&map(&base), &body));
    c.ok("record without a body", record_object(&map(&bare), &[]));
    c.ok("record that removes segments", set(11, names(&[id("x"), id("y")])));
    c.ok("record with slots", set(12, names(&(0..64).map(|n| id(&n.to_string())).collect::<Vec<_>>())));
    c.ok("record with a home", set(15, bytes(&domain("home"))));
    c.ok("record with details", set(16, map(&[(1, uint(1))])));
    c.ok(
        "record with keys to keep",
        record_object(&map(&with(&with(&bare, 0, Some(uint(1))), 17, Some(uint(1)))), &[]),
    );
    c.ok("record with the greatest number", set(2, uint(999_999_999_999)));
    for key in 1..=8 {
        c.bad(
            &format!("record without key {key}"),
            record_object(&map(&with(&base, key, None)), &body),
            ABSENT,
        );
    }
    let together = "keys 9, 13 and 14 stand together";
    for key in [9, 13, 14] {
        c.bad(
            &format!("record with a body but not key {key}"),
            record_object(&map(&with(&base, key, None)), &body),
            together,
        );
    }
    let go = "body and keys 9, 13 and 14 go together";
    c.bad("record with body keys but no body", record_object(&map(&base), &[]), go);
    c.bad("record with a body but no body keys", record_object(&map(&bare), &body), go);
    c.bad("record number over the limit", set(2, uint(1_000_000_000_000)), "its number is over the limit");
    c.bad("empty list of segments added", set(10, array(&[])), EMPTY_LIST);
    c.bad("empty list of segments removed", set(11, array(&[])), EMPTY_LIST);
    c.bad("empty list of slots", set(12, array(&[])), EMPTY_LIST);
    c.ok("record with empty details", set(16, map(&[])));
    c.bad("details in an array", set(16, array(&[uint(1)])), "a map is expected");
    let (mut low, mut high) = (id("x"), id("y"));
    if low > high {
        std::mem::swap(&mut low, &mut high);
    }
    let d = domain("d");
    c.bad(
        "segments added out of order",
        set(10, array(&[segment(&high, 1, &d), segment(&low, 1, &d)])),
        NAMES_ORDER,
    );
    c.bad("segment added twice", set(10, array(&[segment(&low, 1, &d), segment(&low, 1, &d)])), NAMES_ORDER);
    c.bad(
        "segment over the limit",
        set(10, array(&[segment(&low, 268_435_457, &d)])),
        "an index segment is over the limit",
    );
    let two = array(&[bytes(&low), uint(1)]);
    c.bad("segment of two parts", set(10, array(&[two])), "a segment has name, length and domain");
    for key in [11, 12] {
        let list = |a: &[u8; 32], b: &[u8; 32]| set(key, array(&[bytes(a), bytes(b)]));
        c.bad(&format!("names of key {key} out of order"), list(&high, &low), NAMES_ORDER);
        c.bad(&format!("name of key {key} twice"), list(&low, &low), NAMES_ORDER);
    }
    let many = names(&(0..65).map(|n| id(&n.to_string())).collect::<Vec<_>>());
    c.bad("65 slots", set(12, many), "an array is over its limit");
    c.bad("epoch above 32 bits", set(14, uint(1 << 32)), "a number is above 32 bits");
    c.bad("chain value of 31 bytes", set(4, bytes(&[0; 31])), BYTES_SHORT);
    c.bad("time as text", set(8, text("now")), "an integer is expected");
    c.bad("public part and a byte", record_object(&[map(&base), vec![0]].concat(), &body), LEFT);
    c.bad(
        "record nested too deeply",
        set(16, map(&[(1, [vec![0x81; 14], vec![0x80]].concat())])),
        "it is nested too deeply",
    );
    let good = record_object(&map(&base), &body);
    let mut other = good.clone();
    other[7] = b'2';
    c.bad("record with another magic", other, "it does not begin as a log record does");
    c.bad("record and a byte", [good.clone(), vec![0]].concat(), "its length is not what its head says");
    c.bad(
        "record without its last byte",
        good[..good.len() - 1].to_vec(),
        "its length is not what its head says",
    );
    c.bad("record of eleven bytes", good[..11].to_vec(), SHORT);
    let mut other = good.clone();
    other[8..12].copy_from_slice(&4_194_305_u32.to_le_bytes());
    c.bad("public part over the limit", other, OVER);
    let mut other = good;
    other[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    c.bad("body over the limit", other, OVER);
    c.bad("empty record", Vec::new(), "it does not begin as a log record does");
    c
}

/// Sound details for each kind that has them: kind and map.
pub(crate) fn details_fields() -> Vec<(u64, Fields)> {
    let ids = || names(&[id("snapshot a"), id("snapshot b")]);
    let mut orphans = vec![array(&[uint(1), bytes(&id("pack"))]), array(&[uint(2), bytes(&id("segment"))])];
    orphans.sort();
    vec![
        (3, vec![(1, ids())]),
        (4, vec![(1, ids())]),
        (5, vec![(1, ids()), (2, boolean(true))]),
        (6, vec![(1, ids())]),
        (7, vec![(1, uint(4)), (2, array(&orphans))]),
        (8, vec![(1, uint(4)), (2, ids()), (3, array(&[]))]),
        (10, epoch_fields(1, &id("owner 1"))),
        (
            11,
            vec![(1, uint(1)), (2, bytes(&id("key"))), (3, uint(3)), (4, names(&[domain("a"), domain("b")]))],
        ),
        (12, vec![(1, uint(0))]),
        (13, vec![(1, bytes(&id("plan"))), (2, boolean(false))]),
        (14, vec![(1, bytes(&domain("home")))]),
        (15, vec![(1, bytes(&domain("home"))), (2, uint(6)), (3, bytes(&id("chain")))]),
        (16, vec![(1, array(&[bytes(b"a record"), bytes(b"another")]))]),
        (17, vec![(1, int(-5)), (2, uint(3))]),
        (18, vec![(1, bytes(&id("report")))]),
        (19, vec![(1, uint(6)), (2, bytes(&id("state")))]),
    ]
}

pub(crate) fn epoch_fields(number: u64, owner: &[u8; 32]) -> Fields {
    vec![
        (1, uint(number)),
        (2, bytes(&[0xe0; 1216])),
        (3, bytes(owner)),
        (4, bytes(&[4; 48])),
        (5, bytes(&[5; 48])),
        (6, boolean(true)),
    ]
}

pub(crate) fn details() -> Cases {
    let mut c = Cases::default();
    for (kind, fields) in details_fields() {
        c.given(&[("kind", kind), ("record_number", 7)]);
        c.ok(&format!("details of kind {kind}"), map(&fields));
        c.ok(&format!("details of kind {kind} with a key to skip"), map(&with(&fields, 99, Some(uint(1)))));
        for (key, _) in fields.iter().filter(|_| kind != 12) {
            let without = map(&with(&with(&fields, *key, None), 99, Some(uint(1))));
            c.bad(&format!("details of kind {kind} without key {key}"), without, ABSENT);
        }
        c.bad(&format!("details of kind {kind} and a byte"), [map(&fields), vec![0]].concat(), LEFT);
    }
    c.given(&[("kind", 9), ("record_number", 0)]);
    c.ok("details of record 0", map(&[(1, bytes(b"header"))]));
    c.bad("details of record 0 without a header", map(&[(2, uint(0))]), ABSENT);
    c.bad("details of record 0 with a header over the limit", map(&[(1, bytes(&[0; 8193]))]), BYTES_LONG);
    for kind in [1, 2, 9] {
        c.given(&[("kind", kind), ("record_number", 7)]);
        c.bad(
            &format!("details for kind {kind}, which has none"),
            map(&[(1, uint(0))]),
            "this kind has none",
        );
    }
    let (a, b) = if id("a") < id("b") { (id("a"), id("b")) } else { (id("b"), id("a")) };
    c.given(&[("kind", 3), ("record_number", 7)]);
    c.bad("snapshot ids out of order", map(&[(1, array(&[bytes(&b), bytes(&a)]))]), NAMES_ORDER);
    c.bad("snapshot id twice", map(&[(1, array(&[bytes(&a), bytes(&a)]))]), NAMES_ORDER);
    c.bad("snapshot id of 31 bytes", map(&[(1, array(&[bytes(&a[..31])]))]), BYTES_SHORT);
    c.given(&[("kind", 5), ("record_number", 7)]);
    c.bad("hold with a number", map(&[(1, names(&[a])), (2, uint(1))]), "a truth value is expected");
    c.given(&[("kind", 7), ("record_number", 7)]);
    let orphan = |kind, name: &[u8; 32]| array(&[uint(kind), bytes(name)]);
    let orphans = |items: &[Vec<u8>]| map(&[(1, uint(1)), (2, array(items))]);
    let not_orphan = "an orphan is a pack or an index segment";
    c.ok("no orphans", orphans(&[]));
    c.bad("orphan that is a slot", orphans(&[orphan(4, &a)]), not_orphan);
    c.bad("orphan without a name", orphans(&[array(&[uint(1)])]), not_orphan);
    c.bad("orphans out of order", orphans(&[orphan(1, &b), orphan(1, &a)]), NAMES_ORDER);
    c.bad("orphans with segments first", orphans(&[orphan(2, &a), orphan(1, &b)]), NAMES_ORDER);
    c.given(&[("kind", 8), ("record_number", 7)]);
    let unsorted = array(&[bytes(&b), bytes(&a)]);
    c.bad(
        "segments of a sweep out of order",
        map(&[(1, uint(1)), (2, unsorted.clone()), (3, array(&[]))]),
        NAMES_ORDER,
    );
    c.bad("packs of a sweep out of order", map(&[(1, uint(1)), (2, array(&[])), (3, unsorted)]), NAMES_ORDER);
    c.given(&[("kind", 10), ("record_number", 7)]);
    let epoch = epoch_fields(1, &a);
    c.bad("epoch with a short sealing key", map(&with(&epoch, 2, Some(bytes(&[0; 1215])))), BYTES_SHORT);
    c.bad("epoch with a long sealed key", map(&with(&epoch, 4, Some(bytes(&[0; 49])))), BYTES_LONG);
    c.bad(
        "epoch number above 32 bits",
        map(&with(&epoch, 1, Some(uint(1 << 32)))),
        "a number is above 32 bits",
    );
    c.given(&[("kind", 11), ("record_number", 7)]);
    let enrol = |role| vec![(1, uint(1)), (2, bytes(&a)), (3, uint(role)), (4, array(&[]))];
    c.ok("enrolment of a maintainer", map(&enrol(2)));
    c.ok("enrolment of a reader", map(&enrol(4)));
    c.ok("revocation", map(&[(1, uint(2)), (2, bytes(&a))]));
    c.bad("enrolment of an owner", map(&enrol(1)), "the role cannot be enrolled");
    c.bad("enrolment of role 5", map(&enrol(5)), "the role cannot be enrolled");
    c.bad("action 3", map(&with(&enrol(2), 1, Some(uint(3)))), "the action is not known");
    c.bad(
        "revocation with a role",
        map(&with(&with(&enrol(2), 1, Some(uint(2))), 4, None)),
        "the action is not known",
    );
    c.bad(
        "revocation with domains",
        map(&with(&with(&enrol(2), 1, Some(uint(2))), 3, None)),
        "the action is not known",
    );
    let (d, e) =
        if domain("d") < domain("e") { (domain("d"), domain("e")) } else { (domain("e"), domain("d")) };
    let domains = |first: &[u8; 16], second: &[u8; 16]| {
        map(&with(&enrol(3), 4, Some(array(&[bytes(first), bytes(second)]))))
    };
    c.bad("domains out of order", domains(&e, &d), "domains are not ascending");
    c.bad("domain twice", domains(&d, &d), "domains are not ascending");
    let one = |role, domain: [u8; 16]| map(&with(&enrol(role), 4, Some(array(&[bytes(&domain)]))));
    let owner = |epoch: u32| {
        let mut domain = [0; 16];
        domain[..4].copy_from_slice(&epoch.to_le_bytes());
        domain
    };
    let last_byte_set = |mut domain: [u8; 16]| {
        domain[15] = 1;
        domain
    };
    let owners = "a domain of the owner cannot be enrolled";
    c.bad("domain of the owner", one(3, owner(0)), owners);
    c.bad("domain of the owner of a later epoch", one(3, owner(u32::MAX)), owners);
    c.bad("domain of the owner for a maintainer", one(2, owner(0)), owners);
    c.bad("domain of the owner for a reader", one(4, owner(1)), owners);
    c.ok("domain like the owner's but for the last byte", one(3, last_byte_set(owner(1))));
    c
}

/// Plaintexts of sealed bodies.
pub(crate) fn body_plain() -> Cases {
    let plain = |len: u32, cbor: &[u8], padded: usize| {
        let mut plain = [&len.to_le_bytes(), cbor].concat();
        plain.resize(padded, 0);
        plain
    };
    let rule = "its padding is wrong";
    let mut c = Cases::default();
    c.ok("body of one byte", plain(1, &[0xa0], 512));
    c.ok("body that fills its padding", plain(508, &[0x40; 508], 512));
    c.ok("body of 509 bytes", plain(509, &[0x40; 509], 1024));
    c.bad("body with too much padding", plain(1, &[0xa0], 1024), rule);
    c.bad("body of 511 bytes with padding", plain(1, &[0xa0], 511), rule);
    c.bad("body of 513 bytes with padding", plain(1, &[0xa0], 513), rule);
    c.bad("body with a byte in its padding", plain(1, &[0xa0, 1], 512), rule);
    c.bad("body longer than its plaintext", plain(509, &[0x40; 508], 512), rule);
    c.bad("body with a length near 32 bits", plain(u32::MAX, &[0xa0], 512), rule);
    c.bad("body without bytes", Vec::new(), rule);
    c.bad("body of three bytes", vec![0; 3], rule);
    c
}
