//! Objects put together byte by byte, and what is done to them.

use coffer_crypto::rng::{SeededRng, array};
use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, SealContext, SealKey, SealedAs, Secret, SigningKey, VaultKey,
    seal_to_vault,
};
use coffer_format::id::{ChunkId, VaultId, hex};
use coffer_format::manifest::Manifest;
use coffer_format::record::{Public, RecordKind};
use coffer_format::tree::{ChunkRef, TreeRoot};
use serde_json::{Value, json};

const VAULT: VaultId = VaultId([0x5a; 32]);
const DOMAIN: [u8; 16] = [0; 16];

fn vault_key() -> VaultKey {
    VaultKey::from_secret(Secret::new([0x21; 32]))
}

fn keys() -> DomainKeys {
    vault_key().reader().domain_keys(&DOMAIN)
}

fn h(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// The head of what is sealed to the vault, and the key for the rest, with the extra bytes for records.
fn head(seed: u64, sealed_as: SealedAs, vault: VaultId, extra: Option<&[u8; 40]>) -> (Vec<u8>, SealKey) {
    let rng = SeededRng::new(seed);
    let salt: [u8; 32] = array(&rng).unwrap();
    let pair = vault_key().reader().sealing();
    let psk = keys();
    let sealed =
        seal_to_vault(&rng, pair.public(), psk.psk().expose(), &DOMAIN, sealed_as, &vault.0, &salt).unwrap();
    let kind = if sealed_as == SealedAs::Pack { ObjectKind::Pack } else { ObjectKind::LogRecord };
    let mut context = SealContext::new(vault.0, kind, salt);
    if let Some(extra) = extra {
        context = context.with_extra(extra);
    }
    ([&salt[..], &sealed.enc[..], &sealed.commitment].concat(), SealKey::new(&sealed.key, context))
}

/// A frame's plaintext, the length of what it yields, and the chunks in that.
struct Frame {
    plain: Vec<u8>,
    plain_len: u32,
    chunks: Vec<([u8; 32], u32)>,
}

impl Frame {
    fn new(codec: u8, kind: u8, plain_len: u32, payload: &[u8], chunks: Vec<([u8; 32], u32)>) -> Self {
        let plain = [&[codec, kind, 0, 0][..], &plain_len.to_le_bytes(), payload].concat();
        Self { plain, plain_len, chunks }
    }
}

/// A Zstandard frame that yields 200 times `a`: one block of run-length kind, sizes in the head (RFC 8878 3.1.1).
const ZSTD_200_A: [u8; 10] = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 200, 0x43, 0x06, 0x00, b'a'];
/// The same without the content size, and with a window of 1 KiB instead.
const ZSTD_200_A_NO_SIZE: [u8; 10] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x43, 0x06, 0x00, b'a'];
/// A skippable frame of three bytes.
const SKIPPABLE: [u8; 11] = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];

fn pack(seed: u64, frames: &[Frame]) -> Vec<u8> {
    let (mut bytes, key) = head(seed, SealedAs::Pack, VAULT, None);
    let chunk_count: usize = frames.iter().map(|frame| frame.chunks.len()).sum();
    let mut directory = numbers(&[u32::try_from(frames.len()).unwrap(), u32::try_from(chunk_count).unwrap()]);
    directory.extend(DOMAIN);
    for (number, frame) in (0..).zip(frames) {
        let offset = bytes.len();
        bytes.extend_from_slice(&frame.plain);
        key.seal_in_place(Purpose::Frame, number, &mut bytes, offset).unwrap();
        let chunk_count = u32::try_from(frame.chunks.len()).unwrap();
        let row = [len32(&bytes[..offset]), len32(&bytes[offset..]), frame.plain_len, chunk_count];
        directory.extend(numbers(&row));
    }
    for (id, len) in frames.iter().flat_map(|frame| &frame.chunks) {
        directory.extend(id);
        directory.extend(len.to_le_bytes());
    }
    let (start, plain_len) = (bytes.len(), directory.len());
    bytes.extend(directory);
    bytes.resize(65_536 - 48 - 16, 0);
    key.seal_in_place(Purpose::PackDirectory, 0, &mut bytes, start).unwrap();
    let footer_start = bytes.len();
    for number in [start, footer_start - start, plain_len, frames.len()] {
        bytes.extend_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
    }
    key.seal_in_place(Purpose::PackFooter, 0, &mut bytes, footer_start).unwrap();
    assert_eq!(bytes.len(), 65_536);
    bytes
}

fn noise() -> Vec<u8> {
    array::<300>(&SeededRng::new(77)).unwrap().to_vec()
}

fn sound_frames() -> Vec<Frame> {
    let (keys, noise) = (keys(), noise());
    let data = vec![(keys.data_id(&noise[..100]), 100), (keys.data_id(&noise[100..]), 200)];
    let meta = vec![(keys.meta_id(&[b'a'; 150]), 150), (keys.meta_id(&[b'a'; 50]), 50)];
    vec![
        Frame::new(0, 1, 300, &noise, data),
        Frame::new(1, 2, 200, &ZSTD_200_A, meta.clone()),
        Frame::new(1, 2, 200, &ZSTD_200_A_NO_SIZE, meta),
    ]
}

/// Name of the fault, the frame, and how a reader ends that looks for it.
fn faulty_frames() -> Vec<(&'static str, Frame, &'static str)> {
    let frame = |codec, kind, plain_len, payload: &[u8]| {
        Frame::new(codec, kind, plain_len, payload, vec![([0xee; 32], plain_len)])
    };
    let with = |byte: usize, mut frame: Frame| {
        frame.plain[byte] = 1;
        frame
    };
    let a = [b'a'; 200];
    let (zstd, skippable) = (&ZSTD_200_A[..], &SKIPPABLE[..]);
    vec![
        ("unknown codec", frame(2, 1, 200, &a), "malformed"),
        ("unknown kind", frame(0, 3, 200, &a), "malformed"),
        ("first zero set", with(2, frame(0, 1, 200, &a)), "malformed"),
        ("second zero set", with(3, frame(0, 1, 200, &a)), "malformed"),
        ("stored bytes short by one", frame(0, 1, 201, &a), "malformed"),
        ("stored bytes long by one", frame(0, 1, 199, &a), "malformed"),
        ("zstd yields one byte too few", frame(1, 1, 201, zstd), "payload"),
        ("zstd yields one byte too many", frame(1, 1, 199, zstd), "payload"),
        ("two zstd frames", frame(1, 1, 400, &zstd.repeat(2)), "payload"),
        ("skippable frame before", frame(1, 1, 200, &[skippable, zstd].concat()), "payload"),
        ("skippable frame behind", frame(1, 1, 200, &[zstd, skippable].concat()), "payload"),
        ("byte behind the zstd frame", frame(1, 1, 200, &[zstd, &[0]].concat()), "payload"),
        ("zstd frame cut short", frame(1, 1, 200, &zstd[..9]), "payload"),
        ("no zstd frame", frame(1, 1, 200, &a), "payload"),
        ("chunk that is not what its id says", frame(0, 1, 200, &a), "chunk id"),
    ]
}

/// Sealed pages of at most 16,384 bytes of a table.
fn pages(key: &SealKey, purpose: Purpose, table: &[u8], out: &mut Vec<u8>) {
    for (number, page) in (0..).zip(table.chunks(16_384)) {
        let from = out.len();
        out.extend_from_slice(page);
        key.seal_in_place(purpose, number, out, from).unwrap();
    }
}

/// Frame places by pack, and for each chunk its id, pack, frame, offset and length.
type Rows = Vec<([u8; 32], u16, u16, u32, u32)>;

fn segment(seed: u64, packs: &[([u8; 32], u64)], frames: &[Vec<[u32; 3]>], mut rows: Rows) -> Vec<u8> {
    let salt: [u8; 32] = array(&SeededRng::new(seed)).unwrap();
    let (key, commitment) = keys().index_segment_key(&VAULT.0, &salt);
    let key = SealKey::new(&key, SealContext::new(VAULT.0, ObjectKind::IndexSegment, salt));
    let mut bytes = [&b"coffidx1"[..], &DOMAIN, &salt, &commitment].concat();
    let frame_count = frames.iter().map(Vec::len).sum::<usize>();
    bytes.extend(numbers(&[packs.len(), frame_count, rows.len(), 0].map(|n| u32::try_from(n).unwrap())));
    for (name, len) in packs {
        bytes.extend(name);
        bytes.extend(len.to_le_bytes());
    }
    let mut table = Vec::new();
    let mut start = 0;
    for places in frames {
        table.extend(numbers(&[start]));
        start += u32::try_from(places.len()).unwrap();
    }
    frames.iter().flatten().for_each(|place| table.extend(numbers(place)));
    pages(&key, Purpose::FrameTablePage, &table, &mut bytes);
    rows.sort_unstable();
    let mut table = Vec::new();
    for (id, pack, frame, offset, len) in rows {
        table.extend_from_slice(&id[..20]);
        table.extend(pack.to_le_bytes());
        table.extend(frame.to_le_bytes());
        table.extend(numbers(&[offset, len]));
    }
    pages(&key, Purpose::ChunkTablePage, &table, &mut bytes);
    bytes
}

fn small_segment(pack: &[u8]) -> Vec<u8> {
    let mut rows = Rows::new();
    let mut places = Vec::new();
    let mut offset = 1184;
    for (number, frame) in (0..).zip(sound_frames()) {
        let sealed_len = len32(&frame.plain) + 16;
        places.push([offset, sealed_len, frame.plain_len]);
        offset += sealed_len;
        let mut at = 0;
        for (id, len) in frame.chunks {
            // The third frame holds the chunks of the second once more: the first place stands in the segment.
            if number < 2 {
                rows.push((id, 1, number, at, len));
            }
            at += len;
        }
    }
    let elsewhere = h(b"chunk of another pack");
    rows.push((elsewhere, 0, 0, 0, 1000));
    let packs = [(h(b"another pack"), 131_072), (h(pack), 65_536)];
    segment(31, &packs, &[vec![[1184, 1024, 1000]], places], rows)
}

fn large_segment() -> Vec<u8> {
    let rows = (0..600_u32).map(|n| (h(&n.to_le_bytes()), 0, 0, n * 100, 100)).collect();
    segment(32, &[(h(b"large pack"), 65_536)], &[vec![[1184, 60_024, 60_000]]], rows)
}

fn manifest() -> Vec<u8> {
    let chunk = ChunkRef { id: ChunkId(keys().meta_id(&[b'a'; 150])), len: 150 };
    Manifest::new("files", TreeRoot { chunk, height: 0 }).encode()
}

/// A sealed body as record `number` of `signer` has it.
fn body(seed: u64, vault: VaultId, number: u64, signer: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    let mut extra = [0; 40];
    extra[..8].copy_from_slice(&number.to_le_bytes());
    extra[8..].copy_from_slice(signer);
    let (mut bytes, key) = head(seed, SealedAs::Record, vault, Some(&extra));
    let from = bytes.len();
    bytes.extend_from_slice(plain);
    key.seal_in_place(Purpose::RecordBody, 0, &mut bytes, from).unwrap();
    bytes
}

/// A snapshot record around a sealed body, wherever that comes from.
fn record(vault: VaultId, number: u64, signer: &SigningKey, body: &[u8]) -> Vec<u8> {
    let mut public = Public::new(vault, number, RecordKind::Snapshot, *signer.verifying_key().as_bytes());
    public.previous = h(b"the record before");
    public.time_s = 1_700_000_000;
    public.body = Some(coffer_format::record::BodySeal {
        hash: h(body),
        domain: coffer_format::id::DomainId(DOMAIN),
        epoch: 0,
    });
    let public = public.encode();
    let signature = signer.sign(&[b"coffer/1 log record\0", &public[..]].concat());
    let lens = numbers(&[len32(&public), len32(body)]);
    [&b"cofflog1"[..], &lens, &public, body, &signature].concat()
}

fn padded(cbor: &[u8]) -> Vec<u8> {
    let mut plain = [&len32(cbor).to_le_bytes()[..], cbor].concat();
    plain.resize(plain.len().next_multiple_of(512), 0);
    plain
}

fn objects() -> Vec<(&'static str, Vec<u8>)> {
    let owner = vault_key().signing();
    let signer = *owner.verifying_key().as_bytes();
    let other = SigningKey::from_seed(&Secret::new([0x22; 32]));
    let other_vault = VaultId([0x5b; 32]);
    let sealed = body(41, VAULT, 7, &signer, &padded(&manifest()));
    let mut unclean = padded(&manifest());
    *unclean.last_mut().unwrap() = 1;
    let longer = [padded(&manifest()), vec![0; 512]].concat();
    let beyond = [&[0xfd, 1, 0, 0][..], &[0; 508]].concat();
    let pack_bytes = pack(21, &sound_frames());
    let faulty: Vec<_> = faulty_frames().into_iter().map(|(_, frame, _)| frame).collect();
    vec![
        ("segment", small_segment(&pack_bytes)),
        ("segment of two pages", large_segment()),
        ("segment of nothing", segment(33, &[], &[], vec![])),
        ("record", record(VAULT, 7, &owner, &sealed)),
        ("record with the body of another number", record(VAULT, 8, &owner, &sealed)),
        ("record with the body of another signer", record(VAULT, 7, &other, &sealed)),
        ("record with the body of another vault", record(other_vault, 7, &owner, &sealed)),
        ("record with a body too short", record(VAULT, 7, &owner, &sealed[..1183])),
        ("record, padding not zeros", record(VAULT, 7, &owner, &body(42, VAULT, 7, &signer, &unclean))),
        ("record, padding too long", record(VAULT, 7, &owner, &body(43, VAULT, 7, &signer, &longer))),
        ("record, length beyond the body", record(VAULT, 7, &owner, &body(44, VAULT, 7, &signer, &beyond))),
        ("pack", pack_bytes),
        ("pack of faulty frames", pack(22, &faulty)),
    ]
}

pub(crate) fn file() -> Value {
    let objects = objects();
    let mut list = List { objects: &objects, vectors: Vec::new() };
    packs(&mut list);
    frames(&mut list);
    segments(&mut list);
    records(&mut list);
    let vectors = list.vectors;
    let (key, reader) = (vault_key(), vault_key().reader());
    let keys = json!({
        "vault_id": hex(&VAULT.0), "vault_key": hex(key.expose()), "reader_secret": hex(reader.expose()),
        "verifying_key": hex(key.signing().verifying_key().as_bytes()), "domain": hex(&DOMAIN),
    });
    let objects: Vec<_> =
        objects.iter().map(|(name, bytes)| json!({ "name": name, "hex": hex(bytes) })).collect();
    json!({ "keys": keys, "objects": objects, "vectors": vectors })
}

struct List<'a> {
    objects: &'a [(&'static str, Vec<u8>)],
    vectors: Vec<Value>,
}

impl List<'_> {
    /// A vector about `object`, with `others` besides what all have.
    fn add(&mut self, what: &str, object: &str, fault: &str, expect: &str, others: Value) {
        let mut name = format!("{what}: {object}");
        if !fault.is_empty() {
            name = format!("{name}, {fault}");
        }
        assert!(self.objects.iter().any(|other| other.0 == object), "{object}");
        let mut vector = json!({ "name": name, "what": what, "object": object, "expect": expect });
        for (field, value) in others.as_object().unwrap() {
            vector[field] = value.clone();
        }
        self.vectors.push(vector);
    }

    fn len(&self, object: &str) -> usize {
        self.objects.iter().find(|other| other.0 == object).unwrap().1.len()
    }
}

/// Other keys than those of the file.
fn other_keys() -> [(&'static str, Value); 3] {
    let mut domain = DOMAIN;
    domain[15] = 1;
    let reader = VaultKey::from_secret(Secret::new([0x23; 32])).reader();
    [
        ("wrong vault id", json!({ "vault_id": hex(&[0x5b; 32]) })),
        ("wrong domain", json!({ "domain": hex(&domain) })),
        ("wrong reader secret", json!({ "reader_secret": hex(reader.expose()) })),
    ]
}

fn packs(list: &mut List<'_>) {
    list.add("pack", "pack", "", "ok", json!({}));
    list.add("pack", "pack of faulty frames", "", "ok", json!({}));
    for (fault, keys) in other_keys() {
        list.add("pack", "pack", fault, "commitment", keys);
    }
    let frames_len: usize = sound_frames().iter().map(|frame| frame.plain.len() + 16).sum();
    let directory = 1184 + frames_len;
    for (fault, offset, expect) in [
        ("bit of the salt", 0, "commitment"),
        ("bit of the ML-KEM ciphertext", 32, "commitment"),
        ("bit of the X25519 key", 1151 - 16, "commitment"),
        ("top bit of the X25519 key", 1151, "commitment"),
        ("bit of the commitment", 1183, "commitment"),
        ("bit of the directory", directory, "seal"),
        ("bit of the padding", 40_000, "seal"),
        ("bit of the directory's tag", 65_487, "seal"),
        ("bit of the footer", 65_488, "seal"),
        ("bit of the footer's tag", 65_535, "seal"),
    ] {
        let mask = if fault.starts_with("top") { 0x80 } else { 1 };
        list.add("pack", "pack", fault, expect, json!({ "flip": [offset, mask] }));
    }
    list.add("pack", "pack", "last byte cut", "malformed", json!({ "cut": 65_535 }));
    list.add("pack", "pack", "head alone", "malformed", json!({ "cut": 1184 }));
    list.add("pack", "pack", "byte behind", "seal", json!({ "append": "00" }));
    let name = h(b"another name");
    list.add("pack", "pack", "another name", "name", json!({ "object_name": hex(&name) }));
    list.add("pack", "pack", "bit of a frame", "name", json!({
        "flip": [1184, 1], "object_name": hex(&h(&list.objects.iter().find(|o| o.0 == "pack").unwrap().1)),
    }));
}

fn frames(list: &mut List<'_>) {
    let mut offset = 1184;
    let mut places = Vec::new();
    for (number, frame) in sound_frames().iter().enumerate() {
        let ids: Vec<_> = frame.chunks.iter().map(|(id, len)| json!([hex(id), len])).collect();
        let kind = if number == 0 { "data" } else { "meta" };
        let sealed_len = frame.plain.len() + 16;
        places.push(json!({
            "number": number, "offset": offset, "sealed_len": sealed_len, "plain_len": frame.plain_len,
            "kind": kind, "chunks": ids,
        }));
        offset += sealed_len;
    }
    for (place, what) in places.iter().zip(["stored", "compressed", "compressed, no content size"]) {
        list.add("frame", "pack", what, "ok", json!({ "frame": place }));
    }
    let changed = |number: usize, field: &str, value: Value| {
        let mut place = places[number].clone();
        place[field] = value;
        place
    };
    for (fault, place, expect) in [
        ("as another number", changed(0, "number", json!(1)), "seal"),
        ("one byte less", changed(0, "sealed_len", json!(323)), "seal"),
        ("one byte on", changed(0, "offset", json!(1185)), "seal"),
        ("bytes of another frame", changed(2, "offset", places[1]["offset"].clone()), "seal"),
        ("said to be longer", changed(0, "plain_len", json!(301)), "payload"),
        ("said to be shorter", changed(1, "plain_len", json!(199)), "payload"),
        ("data taken for meta", changed(0, "kind", json!("meta")), "kind"),
        ("meta taken for data", changed(1, "kind", json!("data")), "kind"),
        (
            "chunks in another order",
            changed(0, "chunks", json!([places[0]["chunks"][1], places[0]["chunks"][0]])),
            "chunk id",
        ),
        ("one chunk of two", changed(0, "chunks", json!([places[0]["chunks"][0]])), "chunk id"),
    ] {
        list.add("frame", "pack", fault, expect, json!({ "frame": place }));
    }
    for (fault, position) in [("first bit", 1184), ("bit of the payload", 1300), ("bit of the tag", 1507)] {
        list.add("frame", "pack", fault, "seal", json!({ "frame": places[0], "flip": [position, 1] }));
    }
    let mut offset = 1184;
    for (number, (fault, frame, expect)) in faulty_frames().into_iter().enumerate() {
        let sealed_len = frame.plain.len() + 16;
        let kind = if frame.plain[1] == 2 { "meta" } else { "data" };
        let chunks: Vec<_> = frame.chunks.iter().map(|(id, len)| json!([hex(id), len])).collect();
        list.add(
            "frame",
            "pack of faulty frames",
            fault,
            expect,
            json!({ "frame": {
            "number": number, "offset": offset, "sealed_len": sealed_len, "plain_len": frame.plain_len,
            "kind": kind, "chunks": chunks,
        } }),
        );
        offset += sealed_len;
    }
}

fn segments(list: &mut List<'_>) {
    for object in ["segment", "segment of two pages", "segment of nothing"] {
        list.add("segment", object, "", "ok", json!({}));
    }
    for (fault, keys) in other_keys() {
        list.add("segment", "segment", fault, "commitment", keys);
    }
    let len = list.len("segment");
    let frame_page = 104 + 2 * 40;
    let chunk_page = frame_page + 2 * 4 + 4 * 12 + 16;
    for (fault, offset, expect) in [
        ("bit of the magic", 7, "malformed"),
        ("bit of the domain", 8, "commitment"),
        ("bit of the salt", 24, "commitment"),
        ("bit of the commitment", 87, "commitment"),
        ("bit of the pack count", 88, "malformed"),
        ("bit of the frame count", 92, "malformed"),
        ("bit of the chunk count", 96, "malformed"),
        ("high bit of the chunk count", 103, "malformed"),
        ("bit of a pack's length, over the limit", 104 + 32 + 4, "malformed"),
        ("bit of the frame table", frame_page, "seal"),
        ("bit of the frame table's tag", chunk_page - 1, "seal"),
        ("bit of the chunk table", chunk_page, "seal"),
        ("bit of the chunk table's tag", len - 1, "seal"),
    ] {
        list.add("segment", "segment", fault, expect, json!({ "flip": [offset, 1] }));
    }
    list.add("segment", "segment", "last byte cut", "malformed", json!({ "cut": len - 1 }));
    list.add("segment", "segment", "head cut", "malformed", json!({ "cut": 103 }));
    list.add("segment", "segment", "byte behind", "malformed", json!({ "append": "00" }));
    list.add(
        "segment",
        "segment",
        "bit of a pack's name",
        "name",
        json!({
            "flip": [104, 1], "object_name": hex(&h(&list.objects[0].1)),
        }),
    );

    let large = "segment of two pages";
    let first = 104 + 40 + (4 + 12 + 16);
    let second = first + 16_400;
    let second_len = list.len(large) - second;
    let page = |table: &str, page: u64, offset: usize, sealed_len: usize| json!({ "page": { "table": table, "number": page, "offset": offset, "sealed_len": sealed_len } });
    list.add("page", large, "first of the chunks", "ok", page("chunks", 0, first, 16_400));
    list.add("page", large, "second of the chunks", "ok", page("chunks", 1, second, second_len));
    list.add("page", large, "first as second", "seal", page("chunks", 1, first, 16_400));
    list.add("page", large, "second as first", "seal", page("chunks", 0, second, second_len));
    list.add("page", large, "chunks as frames", "seal", page("frames", 0, first, 16_400));
    list.add("page", large, "frames as chunks", "seal", page("chunks", 0, 144, 32));
    list.add("page", large, "second, cut short", "seal", page("chunks", 1, second, second_len - 32));
}

fn records(list: &mut List<'_>) {
    list.add("record", "record", "", "ok", json!({}));
    for (fault, keys) in other_keys().into_iter().skip(1) {
        list.add("record", "record", fault, "commitment", keys);
    }
    for (object, expect) in [
        ("record with the body of another number", "seal"),
        ("record with the body of another signer", "seal"),
        ("record with the body of another vault", "commitment"),
        ("record with a body too short", "malformed"),
        ("record, padding not zeros", "malformed"),
        ("record, padding too long", "malformed"),
        ("record, length beyond the body", "malformed"),
    ] {
        list.add("record", object, "", expect, json!({}));
    }
    let len = list.len("record");
    let bytes = &list.objects.iter().find(|object| object.0 == "record").unwrap().1;
    let public_len = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    for (fault, offset, expect) in [
        ("bit of the magic", 0, "malformed"),
        ("bit of the public length", 8, "malformed"),
        ("bit of the body length", 12, "malformed"),
        ("bit of the map's head", 16, "malformed"),
        ("bit of the vault id", 16 + 10, "signature"),
        ("bit of the body's hash", 16 + public_len - 40, "signature"),
        ("bit of the salt", 16 + public_len, "body hash"),
        ("bit of the body's tag", len - 65, "body hash"),
        ("bit of the signature's point", len - 64, "signature"),
        ("bit of the signature's scalar", len - 20, "signature"),
    ] {
        list.add("record", "record", fault, expect, json!({ "flip": [offset, 1] }));
    }
    list.add("record", "record", "last byte cut", "malformed", json!({ "cut": len - 1 }));
    list.add("record", "record", "byte behind", "malformed", json!({ "append": "00" }));
}

/// First inputs of fuzz targets, by target.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let faulty = faulty_frames().into_iter().map(|(_, frame, _)| frame);
    let frames = sound_frames().into_iter().chain(faulty);
    // Without codec, kind and zeros, a frame's plaintext is its plain length and its payload.
    let mut seeds: Vec<_> = frames.map(|frame| ("payload", frame.plain[4..].to_vec())).collect();
    let signer = vault_key().signing();
    let sealed = body(41, VAULT, 7, signer.verifying_key().as_bytes(), &padded(&manifest()));
    seeds.extend([("record_body", sealed), ("record_body", padded(&manifest()))]);
    let mut ids: Vec<_> = (0..20_u32).map(|n| h(&n.to_le_bytes())).collect();
    ids.sort_unstable();
    let page: Vec<u8> = ids.iter().flat_map(|id| [&id[..20], &[0, 0, 1, 0], &[100; 8]].concat()).collect();
    for id in [ids[0], ids[7], ids[19], h(b"absent"), [0; 32], [0xff; 32]] {
        seeds.push(("chunk_page", [&id[..], &page].concat()));
    }
    seeds
}

/// Checks the values in the file against what was put into the objects, without a decoder.
pub(crate) fn check_values(file: &Value) {
    let value = |name: &str| {
        let vectors = file["vectors"].as_array().unwrap();
        vectors.iter().find(|vector| vector["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(value("record: record")["body"], hex(&manifest()));
    let noise = noise();
    assert_eq!(value("frame: pack, stored"), json!({ "plain": hex(&noise) }));
    assert_eq!(value("frame: pack, compressed"), json!({ "plain": hex(&[b'a'; 200]) }));
    let directory = value("pack: pack");
    let mut offset = 1184;
    for (row, frame) in directory["frames"].as_array().unwrap().iter().zip(sound_frames()) {
        let sealed_len = frame.plain.len() + 16;
        let chunks: Vec<_> = frame.chunks.iter().map(|(id, len)| json!([hex(id), len])).collect();
        let expected = json!({
            "offset": offset, "sealed_len": sealed_len, "plain_len": frame.plain_len, "chunks": chunks,
        });
        assert_eq!(*row, expected);
        offset += sealed_len;
    }
    assert_eq!(directory["directory_offset"], offset);
    let table = value("segment: segment of two pages")["chunk_table"].as_str().unwrap().to_owned();
    let mut ids: Vec<_> = (0..600_u32).map(|n| hex(&h(&n.to_le_bytes())[..20])).collect();
    ids.sort();
    let found: Vec<_> = (0..600).map(|row| table[row * 64..row * 64 + 40].to_owned()).collect();
    assert_eq!(found, ids);
}
