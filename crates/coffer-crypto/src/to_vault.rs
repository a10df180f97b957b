//! Keys sealed to the vault (section 5.2): HPKE in mode `psk` with X-Wing, export only.
//!
//! A writer makes the key of a pack or record body from the vault's public key and a domain's PSK, and cannot get it
//! back afterwards. A wrong PSK, domain, vault or salt, or altered bytes, give another key without an error: it
//! shows in the commitment, which a reader compares before it opens anything.

use std::convert::Infallible;
use std::fmt;

use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, PskBundle, Serializable};
use subtle::ConstantTimeEq;

use crate::error::CryptoError;
use crate::rng::Rng;
use crate::secret::Secret;

/// Length of a sealing public key in bytes.
pub const SEALING_PUBLIC_KEY_LEN: usize = 1216;

/// Length of an encapsulation in bytes.
pub const ENCAPSULATION_LEN: usize = 1120;

/// The public key of an epoch that packs and record bodies are sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingPublicKey(<XWing as Kem>::PublicKey);

impl SealingPublicKey {
    /// Checks and takes the bytes of a key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when the ML-KEM part holds a number that is not reduced.
    pub fn from_bytes(bytes: &[u8; SEALING_PUBLIC_KEY_LEN]) -> Result<Self, CryptoError> {
        <XWing as Kem>::PublicKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| CryptoError::InvalidKey { what: "sealing public key" })
    }

    /// The bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SEALING_PUBLIC_KEY_LEN] {
        let mut bytes = [0; SEALING_PUBLIC_KEY_LEN];
        self.0.write_exact(&mut bytes);
        bytes
    }
}

/// The key pair of an epoch that opens packs and record bodies. The secret half is wiped on drop.
pub struct SealingKeyPair {
    secret: <XWing as Kem>::PrivateKey,
    public: SealingPublicKey,
}

impl SealingKeyPair {
    /// The pair that follows from a 32-byte seed, which is the secret key itself.
    #[must_use]
    pub fn from_seed(seed: &Secret<32>) -> Self {
        let secret = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).expect("a seed is 32 bytes");
        let public = SealingPublicKey(XWing::sk_to_pk(&secret));
        Self { secret, public }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &SealingPublicKey {
        &self.public
    }
}

impl fmt::Debug for SealingKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeyPair")
    }
}

/// What a key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedAs {
    /// The parts of a pack.
    Pack,
    /// The body of a log record.
    Record,
}

impl SealedAs {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Pack => b"pack",
            Self::Record => b"record",
        }
    }
}

/// A fresh key and what the object has to carry so that a reader finds it again.
#[derive(Debug)]
pub struct Encapsulation {
    /// Stands in the object.
    pub enc: Box<[u8; ENCAPSULATION_LEN]>,
    /// Seals the object's parts, with the same salt in its context.
    pub key: Secret<32>,
    /// Stands in the object.
    pub commitment: [u8; 32],
}

/// Makes a fresh key for one object, from the vault's public key and the PSK of `domain`.
///
/// `salt` is 32 fresh random bytes that stand in the object.
///
/// # Errors
/// [`CryptoError::Random`] when `rng` fails.
///
/// # Source
/// `docs/format.md` section 5.2; RFC 9180 sections 5.1.2 and 5.3; draft-connolly-cfrg-xwing-kem.
pub fn seal_to_vault(
    rng: &dyn Rng,
    public_key: &SealingPublicKey,
    psk: &[u8; 32],
    domain: &[u8; 16],
    sealed_as: SealedAs,
    vault_id: &[u8; 32],
    salt: &[u8; 32],
) -> Result<Encapsulation, CryptoError> {
    let psk_id = psk_id(domain);
    let mode = OpModeS::Psk(PskBundle::new(psk, &psk_id).map_err(|_| CryptoError::Encapsulate)?);
    let mut adapter = Adapter { rng, failed: None };
    let sender = hpke::setup_sender_with_rng::<ExportOnlyAead, HkdfSha256, XWing>(
        &mode,
        &public_key.0,
        &info(sealed_as, vault_id, salt),
        &mut adapter,
    );
    // A failed source has left zeros in place of randomness: what was made of them is dropped here.
    if let Some(failed) = adapter.failed {
        return Err(failed);
    }
    let (encapped, context) = sender.map_err(|_| CryptoError::Encapsulate)?;
    let (key, commitment) =
        export(|label, out| context.export(label, out)).map_err(|_| CryptoError::Encapsulate)?;
    let mut enc = Box::new([0; ENCAPSULATION_LEN]);
    encapped.write_exact(enc.as_mut_slice());
    Ok(Encapsulation { enc, key, commitment })
}

/// The key of an object and the commitment it must carry. Compare that with [`commitment_matches`] before opening
/// anything under the key.
///
/// # Errors
/// [`CryptoError::Decapsulate`] when the KEM refuses; wrong keys and altered bytes are not told here.
///
/// # Source
/// As [`seal_to_vault`].
pub fn open_from_vault(
    pair: &SealingKeyPair,
    psk: &[u8; 32],
    domain: &[u8; 16],
    sealed_as: SealedAs,
    vault_id: &[u8; 32],
    salt: &[u8; 32],
    enc: &[u8; ENCAPSULATION_LEN],
) -> Result<(Secret<32>, [u8; 32]), CryptoError> {
    let failed = |_| CryptoError::Decapsulate;
    let psk_id = psk_id(domain);
    let mode = OpModeR::Psk(PskBundle::new(psk, &psk_id).map_err(failed)?);
    let encapped = <XWing as Kem>::EncappedKey::from_bytes(enc).map_err(failed)?;
    let context = hpke::setup_receiver::<ExportOnlyAead, HkdfSha256, XWing>(
        &mode,
        &pair.secret,
        &encapped,
        &info(sealed_as, vault_id, salt),
    )
    .map_err(failed)?;
    export(|label, out| context.export(label, out)).map_err(failed)
}

/// Whether two commitments are equal, in constant time.
#[must_use]
pub fn commitment_matches(expected: &[u8; 32], actual: &[u8; 32]) -> bool {
    expected.ct_eq(actual).into()
}

fn psk_id(domain: &[u8; 16]) -> Vec<u8> {
    [b"coffer/1 domain".as_slice(), domain].concat()
}

fn info(sealed_as: SealedAs, vault_id: &[u8; 32], salt: &[u8; 32]) -> Vec<u8> {
    [b"coffer/1 ".as_slice(), sealed_as.label(), &[0], vault_id, salt].concat()
}

/// Key and commitment, from the exporter of either side.
fn export<E>(exporter: impl Fn(&[u8], &mut [u8]) -> Result<(), E>) -> Result<(Secret<32>, [u8; 32]), E> {
    let key = Secret::fill_with(|out| exporter(b"coffer/1 key", out))?;
    let mut commitment = [0; 32];
    exporter(b"coffer/1 commitment", &mut commitment)?;
    Ok((key, commitment))
}

/// Our randomness for a library that wants its source never to fail: the failure is kept for afterwards.
struct Adapter<'a> {
    rng: &'a dyn Rng,
    failed: Option<CryptoError>,
}

impl TryRng for Adapter<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        if let Err(failed) = self.rng.fill(out) {
            out.fill(0);
            self.failed = Some(failed);
        }
        Ok(())
    }
}

impl TryCryptoRng for Adapter<'_> {}

#[cfg(test)]
mod tests;
