//! The worked example of `docs/format.md` section 17, made from the fixture vault: the document must show these very bytes.

use std::fs;
use std::path::Path;

use coffer_crypto::{
    ObjectKind, Purpose, SealContext, SealKey, SealedAs, VaultKey, hash, open_from_vault, wrap,
};
use coffer_format::header::Header;
use coffer_format::id::{DomainId, VaultId, hex};
use coffer_format::log::{LogState, StoredRecord};
use coffer_format::manifest::Manifest;
use coffer_format::pack::{FRAME_HEAD_LEN, Footer, FrameHead, PACK_FOOTER_SIZE, PACK_HEAD_LEN};
use coffer_format::record::Record;
use coffer_format::slot::{Slot, SlotKind};
use coffer_keys::KeyFile;
use coffer_pipeline::record::{open_body, signature_is_good};

/// The lines of the example: what, and its bytes.
fn example() -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = repository.join("tests/fixtures/vaults/1.0");
    let read = |name: &str| fs::read(folder.join("vault").join(name)).unwrap();
    let mut text = String::new();
    let mut line = |what: &str, bytes: &[u8]| {
        let shown = if bytes.len() > 64 {
            format!("{} … {} ({} bytes)", hex(&bytes[..24]), hex(&bytes[bytes.len() - 8..]), bytes.len())
        } else {
            hex(bytes)
        };
        text.push_str(&format!("{what:<34} {shown}\n"));
    };

    let header_bytes = read("vault");
    let header = Header::decode(&header_bytes).unwrap();
    let vault = Header::vault_id(&header_bytes);
    line("vault, whole", &header_bytes);
    line("vault, first 32 bytes", &header_bytes[..32]);
    line("vault id = H(vault)", &vault.0);

    let key_text = fs::read_to_string(folder.join("key")).unwrap();
    let key_line = key_text.lines().find(|line| line.starts_with("COFFER-KEY-1-")).unwrap().to_owned();
    let secret_hex = &key_line["COFFER-KEY-1-".len()..][..64];
    let secret = coffer_crypto::Secret::new(coffer_format::id::unhex(secret_hex).unwrap());
    KeyFile::parse(key_text.as_bytes()).unwrap();
    line("key file: secret s", secret.expose());
    line("key file: checksum", &wrap::key_file_checksum(&secret));
    line("key file id", &wrap::key_file_id(&secret));

    let (slot_bytes, slot) = fs::read_dir(folder.join("vault/slots"))
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .map(|bytes| (bytes.clone(), Slot::decode(&bytes).unwrap()))
        .find(|(_, slot)| matches!(slot.kind, SlotKind::KeyFile { .. }))
        .unwrap();
    line("slot, whole", &slot_bytes);
    line("slot, its name = H(slot)", &hash::hash(&slot_bytes));
    let context = slot.context();
    line("slot context C", &context);
    line("H(C)", &hash::hash(&context));
    let (kek, commitment) = wrap::slot_keys(&secret, &slot.salt.unwrap(), &vault.0);
    line("KEK", kek.expose());
    line("commitment", &commitment);
    let plain = wrap::unwrap(&kek, &context, &slot.wrapped).unwrap();
    line("wrapped key, opened", plain.expose());
    let key = VaultKey::from_secret(coffer_crypto::Secret::from_slice(&plain.expose()[..32]).unwrap());
    line("VK", key.expose());
    line("owner's verifying key", key.signing().verifying_key().as_bytes());
    let reader = key.reader();
    line("reader secret RS", reader.expose());
    line("sealing public key", &reader.sealing().public().to_bytes());
    let domain = DomainId::owner(0);
    let keys = reader.domain_keys(&domain.0);
    let parts = keys.parts();
    line("data id key", parts.data_id.expose());
    line("meta id key", parts.meta_id.expose());
    line("chunker key", parts.chunker.expose());
    line("tree key", parts.tree.expose());
    line("index key", parts.index.expose());
    line("domain PSK", parts.psk.expose());

    let genesis = read("log/000000000000");
    let record = Record::decode(&genesis).unwrap();
    line("record 0, first 16 bytes", &genesis[..16]);
    line("record 0, public part", record.public_bytes);
    line("record 0, signature", &record.signature);
    line("chain value of record 0", &hash::hash(&genesis));

    // The first snapshot, and the first pack of it.
    let mut state = LogState::new(vault, &header);
    let mut number = 0;
    while state.snapshots.is_empty() {
        let bytes = read(&format!("log/{number:012}"));
        state.apply(StoredRecord::Whole(&bytes), &signature_is_good);
        number += 1;
    }
    let bytes = read(&format!("log/{:012}", number - 1));
    let record = Record::decode(&bytes).unwrap();
    let body = open_body(&record, &reader.sealing(), &keys).unwrap();
    line("first snapshot, its id", &state.snapshots[0].id.0);
    line("its manifest (CBOR)", &body);
    let manifest = Manifest::decode(&body).unwrap();
    line("root of its tree", &manifest.root.chunk.id.0);

    let name = first_file(&folder.join("vault/packs"));
    let pack = fs::read(&name).unwrap();
    line("a pack, its name = H(pack)", &hash::hash(&pack));
    let (salt, rest) = pack.split_first_chunk::<32>().unwrap();
    let (enc, rest) = rest.split_first_chunk::<1120>().unwrap();
    line("salt", salt);
    line("enc", enc);
    line("commitment in the pack", &rest[..32]);
    let (pack_key, expected) = open_pack(&reader, &keys, vault, salt, enc);
    line("pack key", pack_key.expose());
    assert_eq!(rest[..32], expected);
    let seal = SealKey::new(&pack_key, SealContext::new(vault.0, ObjectKind::Pack, *salt));
    let mut footer = pack[pack.len() - PACK_FOOTER_SIZE..].to_vec();
    line("sealed footer", &footer);
    let footer_plain = seal.open_in_place(Purpose::PackFooter, 0, &mut footer).unwrap().to_vec();
    line("footer, opened", &footer_plain);
    let footer = Footer::decode(&footer_plain, pack.len() as u64).unwrap();
    let from = usize::try_from(footer.directory_offset).unwrap();
    let mut directory = pack[from..][..usize::try_from(footer.directory_sealed_len).unwrap()].to_vec();
    let directory = seal.open_in_place(Purpose::PackDirectory, 0, &mut directory).unwrap();
    line("directory, first 24 bytes", &directory[..24]);
    line("frame row 0", &directory[24..40]);
    let frame_len = u32::from_le_bytes(directory[28..32].try_into().unwrap()) as usize;
    let mut frame = pack[usize::try_from(PACK_HEAD_LEN).unwrap()..][..frame_len].to_vec();
    line("frame 0, sealed", &frame);
    let frame = seal.open_in_place(Purpose::Frame, 0, &mut frame).unwrap();
    line("frame 0, its head", &frame[..FRAME_HEAD_LEN]);
    FrameHead::decode(frame).unwrap();
    text
}

fn open_pack(
    reader: &coffer_crypto::ReaderSecret,
    keys: &coffer_crypto::DomainKeys,
    vault: VaultId,
    salt: &[u8; 32],
    enc: &[u8; 1120],
) -> (coffer_crypto::Secret<32>, [u8; 32]) {
    let psk = keys.psk().expose();
    open_from_vault(&reader.sealing(), psk, keys.domain(), SealedAs::Pack, &vault.0, salt, enc).unwrap()
}

fn first_file(folder: &Path) -> std::path::PathBuf {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let first = names.remove(0);
    if first.is_dir() { first_file(&first) } else { first }
}

#[test]
fn the_document_shows_these_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/format.md");
    let document = fs::read_to_string(&path).unwrap();
    let example = example();
    let (begin, end) = ("<!-- example -->\n```\n", "```\n<!-- end of example -->");
    let from = document.find(begin).expect("the document marks its example") + begin.len();
    let to = from + document[from..].find(end).unwrap();
    if std::env::var_os("COFFER_WRITE_FIXTURE").is_some() {
        fs::write(&path, [&document[..from], &example, &document[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&document[from..to], example, "COFFER_WRITE_FIXTURE=1 writes the example anew");
}
