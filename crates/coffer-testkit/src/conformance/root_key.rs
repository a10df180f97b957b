//! What every [`RootKey`] promises.

use std::error::Error;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Rng, Secret};
use coffer_format::id::{VaultId, hex};
use coffer_format::slot::{KeyServiceKind, ServiceKey, Slot, SlotKind, SlotPurpose, TokenKey};
use coffer_keys::{KeyError, RootKey, make_slot, open_slot, try_slots};

const VAULT: VaultId = VaultId([7; 32]);
const OTHER_VAULT: VaultId = VaultId([8; 32]);
/// Threads that use a root key at once.
const THREADS_COUNT: u8 = 8;

/// What is changed, and how.
type Alteration = (&'static str, fn(&mut Slot));

/// Checks one root key.
pub struct RootKeySuite<'a> {
    /// The root key.
    pub root: &'a dyn RootKey,
    /// Another one of the same kind.
    pub other: &'a dyn RootKey,
    /// What `Debug` shows of the root key.
    pub debug: String,
    /// What must not be shown by any error or by `Debug`: passphrases, PINs, tokens, bytes of keys.
    pub secrets: Vec<Vec<u8>>,
    /// Whether the wrapped key is a text that a service may have written in more than one way: altered, it may open, to the same key.
    pub has_many_forms: bool,
    /// Most altered slots that are tried with one check, spread evenly; for kinds that take long to say no.
    pub tries_max: usize,
}

impl RootKeySuite<'_> {
    /// Runs every check.
    ///
    /// # Panics
    /// When the root key breaks a promise of the trait.
    pub fn run(&self) {
        self.wraps_and_unwraps();
        self.keeps_what_a_template_says();
        self.two_wraps_differ();
        self.opens_nothing_of_another_vault_or_key();
        self.binds_every_field();
        self.binds_every_byte();
        self.binds_keys_that_nobody_knows_yet();
        self.refuses_wrapped_keys_of_another_length();
        self.leaves_other_kinds_alone();
        self.works_in_threads();
        self.shows_no_secret(&self.debug);
    }

    fn make(&self, purpose: SlotPurpose, epoch: u32, key: &Secret<32>, seed: u64) -> Slot {
        let made = make_slot(self.root, VAULT, epoch, purpose, "safe", 1_700_000_000, key, &rng(seed));
        let (id, bytes, slot) = made.expect("a slot is made");
        assert_eq!(Slot::id(&bytes), id);
        let shown = [bytes, format!("{slot:?}").into_bytes()].concat();
        assert!(!contains(&shown, key.expose()), "the key stands in its slot");
        slot
    }

    fn made(&self) -> Slot {
        self.make(SlotPurpose::VaultKey, 3, &key(1), 10)
    }

    fn wraps_and_unwraps(&self) {
        for (seed, purpose) in [(1, SlotPurpose::VaultKey), (2, SlotPurpose::ReaderSecret)] {
            let slot = self.make(purpose, u32::from(seed), &key(seed), seed.into());
            assert_eq!(slot.kind.name(), self.root.kind_name());
            assert!(self.root.may_open(&slot));
            assert_eq!(open_slot(&slot, VAULT, self.root).expect("it opens"), key(seed));
            let slots = [(Slot::id(&slot.encode()), slot)];
            assert_eq!(try_slots(&slots, VAULT, self.root).expect("it opens").2, key(seed));
        }
    }

    fn keeps_what_a_template_says(&self) {
        let slot = self.made();
        let again = self.root.wrap(slot.clone(), &key(2), &rng(12)).expect("it is wrapped anew");
        assert_eq!((&again.label, again.epoch, again.created_s), (&slot.label, slot.epoch, slot.created_s));
        assert_eq!((again.vault, again.purpose), (slot.vault, slot.purpose));
        assert_eq!(self.root.unwrap(&again).expect("it opens"), key(2));
        assert_eq!(self.root.unwrap(&slot).expect("the first one still opens"), key(1));
    }

    fn two_wraps_differ(&self) {
        let (one, two) = (self.made(), self.make(SlotPurpose::VaultKey, 3, &key(1), 11));
        assert_ne!(one.wrapped, two.wrapped, "the same key is wrapped twice alike");
    }

    fn opens_nothing_of_another_vault_or_key(&self) {
        let slot = self.made();
        let result = open_slot(&slot, OTHER_VAULT, self.root);
        assert!(matches!(result, Err(KeyError::WrongKey { .. })), "{result:?}");
        self.stays_closed(self.other, &slot, "with another root key");
        let slots = [(Slot::id(&slot.encode()), slot)];
        match try_slots(&slots, VAULT, self.other) {
            Err(error @ KeyError::NoSlot { .. }) => self.check_error(&error),
            result => panic!("{result:?} instead of NoSlot"),
        }
    }

    fn binds_every_field(&self) {
        let slot = self.made();
        let alterations: &[Alteration] = &[
            ("vault", |slot| slot.vault = OTHER_VAULT),
            ("epoch", |slot| slot.epoch += 1),
            ("purpose", |slot| slot.purpose = SlotPurpose::ReaderSecret),
            ("label", |slot| slot.label.push('!')),
            ("no label", |slot| slot.label.clear()),
            ("time", |slot| slot.created_s += 1),
            ("salt", |slot| slot.salt = if slot.salt.is_some() { None } else { Some([0; 32]) }),
        ];
        for (what, alter) in alterations {
            let mut altered = slot.clone();
            alter(&mut altered);
            self.stays_closed(self.root, &altered, what);
        }
        if slot.commitment.is_some() {
            for commitment in [None, Some([0; 32])] {
                let mut altered = slot.clone();
                altered.commitment = commitment;
                self.stays_closed(self.root, &altered, "with another commitment");
            }
        }
    }

    /// Parameters, IVs and MACs among them, whatever the kind has.
    fn binds_every_byte(&self) {
        let slot = self.made();
        let bytes = slot.encode();
        for position in self.spread(bytes.len()) {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            let how = format!("with byte {position} altered");
            match Slot::decode(&altered) {
                Ok(altered)
                    if altered.context() == slot.context() && altered.commitment == slot.commitment =>
                {
                    self.stays_closed_or_gives_the_key(&altered, &how);
                }
                Ok(altered) => self.stays_closed(self.root, &altered, &how),
                Err(_) => {}
            }
        }
        for position in self.spread(slot.wrapped.len()) {
            let mut altered = slot.clone();
            altered.wrapped[position] ^= 0x80;
            let how = format!("with byte {position} of the wrapped key altered");
            self.stays_closed_or_gives_the_key(&altered, &how);
        }
    }

    fn binds_keys_that_nobody_knows_yet(&self) {
        let mut bytes = self.made().encode();
        assert!((0xa1..0xb6).contains(&bytes[0]), "a map of few keys");
        bytes[0] += 1;
        bytes.extend_from_slice(&[11, 0xf5]);
        let extended = Slot::decode(&bytes).expect("unknown keys are kept");
        self.stays_closed(self.root, &extended, "with a key that it was made without");
        let wrapped = self.root.wrap(extended, &key(1), &rng(13)).expect("it is wrapped");
        let read_back = Slot::decode(&wrapped.encode()).expect("it decodes");
        assert_eq!(self.root.unwrap(&read_back).expect("it opens"), key(1));
    }

    fn refuses_wrapped_keys_of_another_length(&self) {
        let slot = self.made();
        let len = slot.wrapped.len();
        for new_len in [0, 1, len / 2, len - 16, len - 1, len + 1, len + 16, 4096] {
            let mut altered = slot.clone();
            altered.wrapped.resize(new_len, 0);
            self.stays_closed_or_gives_the_key(&altered, &format!("with {new_len} bytes for {len}"));
        }
    }

    fn leaves_other_kinds_alone(&self) {
        let own = self.made().kind.number();
        for kind in kinds().into_iter().filter(|kind| kind.number() != own) {
            let name = kind.name();
            let mut slot =
                Slot::unwrapped(VAULT, 0, SlotPurpose::VaultKey, kind, String::new(), 1_700_000_000);
            assert!(!self.root.may_open(&slot), "{name}");
            let result = self.root.wrap(slot.clone(), &key(1), &rng(1));
            assert!(matches!(result, Err(KeyError::Kind { .. })), "{name}: {result:?}");
            slot.wrapped = vec![0; 80];
            (slot.salt, slot.commitment) = (Some([0; 32]), Some([0; 32]));
            let result = self.root.unwrap(&slot);
            assert!(matches!(result, Err(KeyError::WrongKey { .. })), "{name}: {result:?}");
        }
    }

    fn works_in_threads(&self) {
        std::thread::scope(|scope| {
            for thread in 0..THREADS_COUNT {
                scope.spawn(move || {
                    let slot = self.make(SlotPurpose::VaultKey, 0, &key(thread), thread.into());
                    assert_eq!(self.root.unwrap(&slot).expect("it opens"), key(thread));
                });
            }
        });
    }

    /// As [`Self::stays_closed`], where nothing but the wrapped key is another.
    fn stays_closed_or_gives_the_key(&self, slot: &Slot, how: &str) {
        match self.root.unwrap(slot) {
            Ok(found) if self.has_many_forms => assert_eq!(found, key(1), "a slot gave another key {how}"),
            _ => self.stays_closed(self.root, slot, how),
        }
    }

    /// It does not open, and nothing that is said about that shows a secret.
    fn stays_closed(&self, root: &dyn RootKey, slot: &Slot, how: &str) {
        match root.unwrap(slot) {
            Ok(_) => panic!("a slot opened {how}"),
            Err(error) => self.check_error(&error),
        }
    }

    fn check_error(&self, error: &KeyError) {
        self.shows_no_secret(&format!("{error:?}"));
        let mut cause: Option<&dyn Error> = Some(error);
        while let Some(error) = cause {
            self.shows_no_secret(&error.to_string());
            cause = error.source();
        }
    }

    fn shows_no_secret(&self, text: &str) {
        let keys = (0..THREADS_COUNT).map(|seed| key(seed).expose().to_vec());
        for secret in self.secrets.iter().cloned().chain(keys) {
            let decimals = format!("{secret:?}");
            let decimals = decimals.trim_matches(['[', ']']);
            for form in [secret.as_slice(), hex(&secret).as_bytes(), decimals.as_bytes()] {
                assert!(!contains(text.as_bytes(), form), "a secret is shown in: {text}");
            }
        }
    }

    /// At most `tries_max` positions of `len`, evenly apart.
    fn spread(&self, len: usize) -> impl Iterator<Item = usize> + use<> {
        (0..len).step_by(len.div_ceil(self.tries_max).max(1))
    }
}

fn rng(seed: u64) -> SeededRng {
    SeededRng::new(seed)
}

fn key(seed: u8) -> Secret<32> {
    let mut bytes = [0; 32];
    rng(1000 + u64::from(seed)).fill(&mut bytes).expect("a seeded generator does not fail");
    Secret::new(bytes)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    assert!(!part.is_empty(), "an empty secret is in every text");
    text.windows(part.len()).any(|window| window == part)
}

/// One of each kind of slot.
fn kinds() -> Vec<SlotKind> {
    let name = || "a".to_owned();
    let services = [KeyServiceKind::KeyProtect, KeyServiceKind::Hpcs, KeyServiceKind::Local];
    let services = services.map(|service| {
        let (endpoint, instance, key) = ("https://kms.example".to_owned(), name(), name());
        let (crn, version, region, ring) = (None, None, None, None);
        SlotKind::Service(ServiceKey { service, endpoint, instance, key, crn, version, region, ring })
    });
    let token = TokenKey {
        token_label: name(),
        token_serial: name(),
        label: name(),
        id: vec![1],
        mechanism: 0x1087,
        iv: Some(vec![0; 12]),
        mac: None,
        salt: None,
    };
    let mut kinds = vec![
        SlotKind::Passphrase { memory_kib: 65_536, passes: 3, lanes: 4, salt: [0; 16] },
        SlotKind::KeyFile { key_id: [0; 8] },
        SlotKind::Shares { set_id: [0; 8], threshold: 2, digests: vec![[0; 16]; 3] },
        SlotKind::Token(token),
    ];
    kinds.extend(services);
    kinds
}
