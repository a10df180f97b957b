use proptest::prelude::*;

use super::*;

const PURPOSES: [Purpose; 9] = [
    Purpose::Frame,
    Purpose::PackDirectory,
    Purpose::PackFooter,
    Purpose::FrameTablePage,
    Purpose::ChunkTablePage,
    Purpose::RecordBody,
    Purpose::WrappedKey,
    Purpose::PreviousVaultKey,
    Purpose::PreviousReaderSecret,
];

const KINDS: [ObjectKind; 5] = [
    ObjectKind::Pack,
    ObjectKind::IndexSegment,
    ObjectKind::LogRecord,
    ObjectKind::KeySlot,
    ObjectKind::EpochRecord,
];

fn context() -> SealContext {
    SealContext::new([0x11; 32], ObjectKind::Pack, [0x22; 32])
}

fn key() -> Secret<32> {
    Secret::new([0x33; 32])
}

fn sealed(context: SealContext, purpose: Purpose, ordinal: u32, plain: &[u8]) -> Vec<u8> {
    let mut buf = plain.to_vec();
    SealKey::new(&key(), context).seal_in_place(purpose, ordinal, &mut buf, 0).unwrap();
    buf
}

/// Opens by each way there is; they have to agree.
fn open(
    key: &Secret<32>,
    context: SealContext,
    purpose: Purpose,
    ordinal: u32,
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (fast, portable) = (SealKey::new(key, context), PortableSealKey::new(key, context));
    let mut outcomes = Vec::new();
    let mut buf = sealed.to_vec();
    outcomes.push(fast.open_in_place(purpose, ordinal, &mut buf).ok().map(|plain| plain.to_vec()));
    let mut buf = sealed.to_vec();
    outcomes.push(portable.open_in_place(purpose, ordinal, &mut buf).ok().map(|plain| plain.to_vec()));
    for dirt in [0, 1, sealed.len() + 50] {
        let mut out = vec![0xee; dirt];
        let opened = fast.open_to(purpose, ordinal, sealed, &mut out).is_ok();
        assert!(opened || out.is_empty(), "a failure leaves nothing behind");
        outcomes.push(opened.then_some(out));
        let mut out = vec![0xee; dirt];
        let opened = portable.open_to(purpose, ordinal, sealed, &mut out).is_ok();
        assert!(opened || out.is_empty(), "a failure leaves nothing behind");
        outcomes.push(opened.then_some(out));
    }
    assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]));
    outcomes.pop().unwrap()
}

#[test]
fn codes_are_those_of_the_format() {
    assert_eq!(PURPOSES.map(|purpose| purpose as u8), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(KINDS.map(|kind| kind as u8), [1, 2, 3, 4, 5]);
}

#[test]
fn nonce_layout() {
    assert_eq!(nonce(Purpose::ChunkTablePage, 0x0403_0201), [5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
}

/// The line of section 5.1, part by part.
#[test]
fn additional_data_layout() {
    let mut expected = b"coffer/1".to_vec();
    expected.extend([0x11; 32]);
    expected.push(3);
    expected.push(6);
    expected.extend([0, 0]);
    expected.extend([0x04, 0x03, 0x02, 0x01]);
    expected.extend([0x22; 32]);
    assert_eq!(expected.len(), 80);
    let context = SealContext::new([0x11; 32], ObjectKind::LogRecord, [0x22; 32]);
    let aad = AdditionalData::new(&context).for_seal(Purpose::RecordBody, 0x0102_0304);
    assert_eq!(aad.as_slice(), expected);

    let mut extra = [0x55; 40];
    extra[..8].copy_from_slice(&9_u64.to_le_bytes());
    expected.extend(extra);
    let aad = AdditionalData::new(&context.with_extra(&extra)).for_seal(Purpose::RecordBody, 0x0102_0304);
    assert_eq!(aad.as_slice(), expected);
    assert_eq!(context.with_extra(&extra).with_extra(&[]), context);
}

#[test]
fn what_is_before_from_stays() {
    let mut buf = b"headplain".to_vec();
    SealKey::new(&key(), context()).seal_in_place(Purpose::Frame, 3, &mut buf, 4).unwrap();
    assert_eq!(&buf[..4], b"head");
    assert_eq!(buf[4..], sealed(context(), Purpose::Frame, 3, b"plain"));
    assert_eq!(buf.len(), 9 + TAG_LEN);
}

#[test]
fn every_part_of_the_context_counts() {
    let extra = [0x44; 40];
    let context = context().with_extra(&extra);
    let sealed = sealed(context, Purpose::Frame, 5, b"plain");
    let opens = |context, purpose, ordinal| open(&key(), context, purpose, ordinal, &sealed);
    assert_eq!(opens(context, Purpose::Frame, 5).as_deref(), Some(&b"plain"[..]));

    for purpose in &PURPOSES[1..] {
        assert_eq!(opens(context, *purpose, 5), None);
    }
    for bit in 0..32 {
        assert_eq!(opens(context, Purpose::Frame, 5 ^ (1 << bit)), None);
    }
    for kind in &KINDS[1..] {
        assert_eq!(opens(SealContext { kind: *kind, ..context }, Purpose::Frame, 5), None);
    }
    for position in 0..32 {
        let mut other = context;
        other.vault_id[position] ^= 1;
        assert_eq!(opens(other, Purpose::Frame, 5), None);
        let mut other = context;
        other.salt[position] ^= 1;
        assert_eq!(opens(other, Purpose::Frame, 5), None);
    }
    for position in 0..40 {
        let mut other = extra;
        other[position] ^= 1;
        assert_eq!(opens(context.with_extra(&other), Purpose::Frame, 5), None);
    }
    assert_eq!(opens(context.with_extra(&[]), Purpose::Frame, 5), None);
    assert_eq!(opens(context.with_extra(&[0x44; 39]), Purpose::Frame, 5), None);
    let swapped = SealContext { vault_id: context.salt, salt: context.vault_id, ..context };
    assert_eq!(opens(swapped, Purpose::Frame, 5), None);
    assert_eq!(open(&Secret::new([0x32; 32]), context, Purpose::Frame, 5, &sealed), None);
}

#[test]
fn altered_or_cut_bytes_do_not_open() {
    let sealed = sealed(context(), Purpose::Frame, 0, b"some plaintext");
    for len in 0..sealed.len() {
        assert_eq!(open(&key(), context(), Purpose::Frame, 0, &sealed[..len]), None);
        assert_eq!(open(&key(), context(), Purpose::Frame, 0, &sealed[sealed.len() - len..]), None);
    }
    for bit in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&key(), context(), Purpose::Frame, 0, &altered), None);
    }
    assert_eq!(open(&key(), context(), Purpose::Frame, 0, &[&sealed[..], &[0]].concat()), None);
}

#[test]
fn the_error_names_what_and_not_why() {
    let key = SealKey::new(&key(), context());
    let short = key.open_in_place(Purpose::PackFooter, 0, &mut [0; 3]).unwrap_err();
    let wrong = key.open_in_place(Purpose::PackFooter, 0, &mut [0; 48]).unwrap_err();
    assert_eq!(short.to_string(), "pack footer does not open");
    assert_eq!(wrong.to_string(), short.to_string());
}

proptest! {
    #[test]
    fn both_keys_give_the_same_bytes(
        key: [u8; 32],
        vault_id: [u8; 32],
        salt: [u8; 32],
        extra: [u8; 32],
        purpose in prop::sample::select(PURPOSES.to_vec()),
        kind in prop::sample::select(KINDS.to_vec()),
        ordinal: u32,
        plain in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let key = Secret::new(key);
        let context = SealContext::new(vault_id, kind, salt).with_extra(&extra);
        let (mut fast, mut portable) = (plain.clone(), plain.clone());
        SealKey::new(&key, context).seal_in_place(purpose, ordinal, &mut fast, 0).unwrap();
        PortableSealKey::new(&key, context).seal_in_place(purpose, ordinal, &mut portable, 0).unwrap();
        prop_assert_eq!(&fast, &portable);
        prop_assert_eq!(open(&key, context, purpose, ordinal, &fast), Some(plain));
    }
}
