//! Root keys of key services, as whoever makes and opens slots sees them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use coffer_crypto::{Rng, Secret, commitment_matches, hash};
use coffer_format::id::hex;
use coffer_format::slot::{KeyServiceKind, ServiceKey, Slot, SlotKind};
use coffer_keys::{KeyError, RootKey, ServiceAnswer};
use zeroize::Zeroizing;

use super::call::is_id;
use super::{KeyServices, name, told};

/// Length of what a slot wraps: a key, and what it is bound to.
const PLAIN_LEN: usize = 64;

/// Root keys that key services hold: all that slots name, or a certain one.
pub struct ServiceRoot {
    services: Arc<KeyServices>,
    place: Option<ServiceKey>,
    /// The id of the key, once the service has told it: it may be named by an alias.
    id: OnceLock<String>,
    /// Whether the place takes that of any service slot, as a root key of the same material does.
    stands_in: bool,
}

/// A slot under the newest version of its root key.
#[derive(Debug)]
pub struct Rewrapped {
    /// The slot; alike but for the wrapped key.
    pub slot: Slot,
    /// Version it was wrapped under.
    pub from: Option<String>,
    /// Version it is wrapped under now.
    pub to: Option<String>,
}

impl Rewrapped {
    /// Whether it was under the newest version already.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.from.is_some() && self.from == self.to
    }
}

impl ServiceRoot {
    /// Opens every slot of a key service that there are credentials for. It makes none.
    #[must_use]
    pub const fn any(services: Arc<KeyServices>) -> Self {
        Self { services, place: None, id: OnceLock::new(), stands_in: false }
    }

    /// Makes slots for one root key, and opens those that name it.
    #[must_use]
    pub const fn at(services: Arc<KeyServices>, place: ServiceKey) -> Self {
        Self { services, place: Some(place), id: OnceLock::new(), stands_in: false }
    }

    /// Opens any slot of a key service with one root key, wherever the slot says it is: one that was imported from the same
    /// material, where the service that the slot names is lost.
    #[must_use]
    pub const fn in_place_of_others(services: Arc<KeyServices>, place: ServiceKey) -> Self {
        Self { services, place: Some(place), id: OnceLock::new(), stands_in: true }
    }

    /// Has the service wrap a slot anew under the newest version of its root key, without showing what is in it.
    ///
    /// # Errors
    /// [`KeyError::Service`]; [`KeyError::Kind`] for a slot of another kind.
    pub fn rewrap(&self, slot: &Slot) -> Result<Rewrapped, KeyError> {
        let key = self.key_for(slot)?;
        let (ciphertext, from, to) =
            self.services.rewrap(key, (text_of(slot, key)?, made_by(slot, key)), &aad(&slot.context()))?;
        let mut slot = slot.clone();
        slot.wrapped = ciphertext.into_bytes();
        Ok(Rewrapped { slot, from, to })
    }

    /// Whether a slot names the key at the place.
    fn is_same(&self, key: &ServiceKey, place: &ServiceKey) -> bool {
        (key.service, &key.endpoint, &key.instance) == (place.service, &place.endpoint, &place.instance)
            && (key.key == place.key || self.id.get() == Some(&key.key))
    }

    fn key_for<'a>(&'a self, slot: &'a Slot) -> Result<&'a ServiceKey, KeyError> {
        match (&slot.kind, &self.place) {
            (SlotKind::Service(_), Some(place)) if self.stands_in => Ok(place),
            (SlotKind::Service(key), None) => Ok(key),
            (SlotKind::Service(key), Some(place)) if self.is_same(key, place) => Ok(key),
            _ => Err(KeyError::Kind { slot: slot.kind.name(), root: self.kind_name() }),
        }
    }
}

fn aad(context: &[u8]) -> String {
    hex(&hash::hash(context))
}

fn text_of<'a>(slot: &'a Slot, key: &ServiceKey) -> Result<&'a str, KeyError> {
    std::str::from_utf8(&slot.wrapped)
        .map_err(|_| told(key, ServiceAnswer::NotThisKey, "the wrapped key is no text".to_owned()))
}

/// The service that wrapped what is in the slot.
const fn made_by(slot: &Slot, key: &ServiceKey) -> KeyServiceKind {
    match &slot.kind {
        SlotKind::Service(made) => made.service,
        _ => key.service,
    }
}

impl fmt::Debug for ServiceRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceRoot").field("place", &self.place).finish_non_exhaustive()
    }
}

impl RootKey for ServiceRoot {
    fn kind_name(&self) -> &'static str {
        self.place.as_ref().map_or("key service", name)
    }

    /// Without credentials nothing can be asked; then a slot is not one for this key.
    fn may_open(&self, slot: &Slot) -> bool {
        self.key_for(slot).is_ok_and(|key| self.services.has_credentials(key.service))
    }

    fn is_at(&self, slot: &Slot) -> bool {
        let (SlotKind::Service(key), Some(place), false) = (&slot.kind, &self.place, self.stands_in) else {
            return false;
        };
        // The place may name the key by an alias, which only the service knows; it is asked where the place is, not where the slot says.
        if !self.is_same(key, place)
            && !is_id(&place.key)
            && let Ok(facts) = self.services.facts(place)
        {
            self.id.get_or_init(|| facts.id);
        }
        self.may_open(slot)
    }

    /// Asks the service about the key: whether it is a root key that can be used, and by which id where it was named by an alias.
    fn new_kind(&self, _: &dyn Rng) -> Result<SlotKind, KeyError> {
        let place = self.place.as_ref().ok_or(KeyError::OnlyOpens { root: self.kind_name() })?;
        let mut key = place.clone();
        match self.services.facts(place) {
            Ok(facts) => {
                if facts.is_extractable {
                    let what = "it is a standard key, whose material the service gives out; name a root key";
                    return Err(told(place, ServiceAnswer::Other, what.to_owned()));
                }
                if !facts.is_active {
                    return Err(told(place, ServiceAnswer::KeyDisabled, String::new()));
                }
                // A slot that names a wrong ring would cost a request more each time.
                if let (Some(named), Some(found)) = (&key.ring, facts.ring)
                    && *named != found
                {
                    let what = format!("the key is in the ring {found}, not in {named}");
                    return Err(told(place, ServiceAnswer::KeyMissing, what));
                }
                key.key.clone_from(self.id.get_or_init(|| facts.id));
                key.crn = facts.crn.or(key.crn);
                key.version = facts.version;
            }
            // Whoever may wrap need not be allowed to look. But an alias may be given to another key, and then the slot would be shut.
            Err(KeyError::Service { answer: ServiceAnswer::Denied, detail, .. }) if !is_id(&place.key) => {
                let what = format!(
                    "{:?} looks like an alias, and its key may not be looked up; name the key by its id ({detail})",
                    place.key
                );
                return Err(told(place, ServiceAnswer::Denied, what));
            }
            Err(KeyError::Service { answer: ServiceAnswer::Denied, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(SlotKind::Service(key))
    }

    fn wrap(&self, mut slot: Slot, key: &Secret<32>, _: &dyn Rng) -> Result<Slot, KeyError> {
        let at = self.key_for(&slot)?;
        let context = slot.context();
        let mut plain = Zeroizing::new([0; PLAIN_LEN]);
        plain[..32].copy_from_slice(key.expose());
        plain[32..].copy_from_slice(&hash::hash(&context));
        let ciphertext = self.services.wrap(at, &*plain, &aad(&context))?;
        slot.wrapped = ciphertext.into_bytes();
        Ok(slot)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let wrong = || KeyError::WrongKey { root: self.kind_name() };
        let key = self.key_for(slot).map_err(|_| wrong())?;
        let context = slot.context();
        let plain = self.services.unwrap(key, (text_of(slot, key)?, made_by(slot, key)), &aad(&context))?;
        let plain = Secret::<PLAIN_LEN>::from_slice(&plain).map_err(|_| wrong())?;
        let (key, bound_to) = plain.split();
        if commitment_matches(&bound_to, &hash::hash(&context)) { Ok(key) } else { Err(wrong()) }
    }
}
