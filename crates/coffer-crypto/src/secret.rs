//! Memory that is wiped when it is dropped.
//!
//! A secret lives where it was made, so moving it leaves no copy behind: in memory that is kept from swap where the system allows
//! (`locked.rs`), else on the heap. It cannot be cloned or serialized, and `Debug` prints the type's name alone. Comparison takes the same time whatever the contents.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::error::CryptoError;
use crate::locked::{KEY_LEN, Locked};
use crate::rng::Rng;

/// `N` secret bytes.
pub struct Secret<const N: usize>(Memory<N>);

enum Memory<const N: usize> {
    /// Its first `N` bytes are the secret.
    Locked(Locked),
    Heap(Box<[u8; N]>),
}

impl<const N: usize> Secret<N> {
    /// Takes `bytes` and wipes the argument. An array is `Copy`: a caller that keeps one has to wipe it.
    #[must_use]
    pub fn new(mut bytes: [u8; N]) -> Self {
        let mut secret = Self::zeros();
        secret.bytes_mut().copy_from_slice(&bytes);
        bytes.zeroize();
        secret
    }

    /// `N` fresh random bytes.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when `rng` fails.
    pub fn generate(rng: &dyn Rng) -> Result<Self, CryptoError> {
        Self::fill_with(|out| rng.fill(out))
    }

    /// Copies exactly `N` bytes.
    ///
    /// # Errors
    /// [`CryptoError::Len`] when `bytes` has another length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != N {
            return Err(CryptoError::Len {
                what: "secret",
                expected_len: N as u64,
                actual_len: bytes.len() as u64,
            });
        }
        let mut secret = Self::zeros();
        secret.bytes_mut().copy_from_slice(bytes);
        Ok(secret)
    }

    /// The bytes. Whoever copies them has to wipe the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        match &self.0 {
            // A place is as long as `zeros` found it to be.
            Memory::Locked(place) => place.bytes().first_chunk().unwrap_or(&[0; N]),
            Memory::Heap(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Locked(place) => &mut place.bytes_mut()[..N],
            Memory::Heap(bytes) => bytes.as_mut_slice(),
        }
    }

    /// Lets `fill` write the bytes where they will stay.
    pub(crate) fn fill_with<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self::zeros();
        fill(secret.bytes_mut())?;
        Ok(secret)
    }

    fn zeros() -> Self {
        let place = if N <= KEY_LEN { Locked::for_key() } else { None };
        Self(place.map_or_else(|| Memory::Heap(Box::new([0; N])), Memory::Locked))
    }
}

impl Secret<64> {
    /// The first 32 bytes as a secret of their own, and the last 32.
    #[must_use]
    pub fn split(&self) -> (Secret<32>, [u8; 32]) {
        let mut first = Secret::zeros();
        let mut last = [0; 32];
        first.bytes_mut().copy_from_slice(&self.expose()[..32]);
        last.copy_from_slice(&self.expose()[32..]);
        (first, last)
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
    }
}

impl<const N: usize> zeroize::ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.expose().as_slice().ct_eq(other.expose().as_slice())
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Secret bytes of any length: passphrases, and the contents of files that hold keys.
pub struct SecretBytes(Buffer);

enum Buffer {
    /// So many of its first bytes are the secret.
    Locked(Locked, usize),
    Heap(Zeroizing<Vec<u8>>),
}

impl SecretBytes {
    /// Takes the bytes. The buffer is wiped, with all of its capacity: at once if the bytes are copied to where they are kept from swap, else
    /// when they are dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        match Locked::for_bytes(bytes.len()) {
            Some(mut place) => {
                place.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
                Self(Buffer::Locked(place, bytes.len()))
            }
            None => Self(Buffer::Heap(bytes)),
        }
    }

    /// The bytes. Whoever copies them has to wipe the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Buffer::Locked(place, len) => &place.bytes()[..*len],
            Buffer::Heap(bytes) => bytes,
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl ConstantTimeEq for SecretBytes {
    /// The lengths are not secret: slices of unequal length compare unequal at once.
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.expose().ct_eq(other.expose())
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SecretBytes {}

impl zeroize::ZeroizeOnDrop for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Secret::new([0xab; 32])), "Secret");
        assert_eq!(format!("{:?}", SecretBytes::from("hunter2".to_owned())), "SecretBytes");
    }

    #[test]
    fn equality_is_by_content() {
        assert_eq!(Secret::new([1; 32]), Secret::new([1; 32]));
        for position in 0..32 {
            let mut other = [1; 32];
            other[position] ^= 0x80;
            assert_ne!(Secret::new([1; 32]), Secret::new(other));
        }
        assert_eq!(SecretBytes::new(b"ab".to_vec()), SecretBytes::new(b"ab".to_vec()));
        assert_ne!(SecretBytes::new(b"ab".to_vec()), SecretBytes::new(b"abc".to_vec()));
    }

    #[test]
    fn from_slice_takes_one_length() {
        assert!(Secret::<32>::from_slice(&[0; 31]).is_err());
        assert!(Secret::<32>::from_slice(&[0; 33]).is_err());
        assert_eq!(Secret::<32>::from_slice(&[7; 32]).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn split_keeps_order() {
        let mut bytes = [1; 64];
        bytes[32..].fill(2);
        let (first, last) = Secret::new(bytes).split();
        assert_eq!(first.expose(), &[1; 32]);
        assert_eq!(last, [2; 32]);
    }

    #[test]
    fn generated_secrets_differ() {
        let rng = SeededRng::new(1);
        assert_ne!(Secret::<32>::generate(&rng).unwrap(), Secret::<32>::generate(&rng).unwrap());
    }
}
