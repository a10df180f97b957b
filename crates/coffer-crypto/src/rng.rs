//! Randomness comes in from outside, so that tests can repeat what they saw.

use crate::error::CryptoError;

/// A source of bytes that nobody else can predict.
pub trait Rng: Send + Sync {
    /// Fills `out` completely.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the source fails; what is in `out` then MUST NOT be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        getrandom::fill(out).map_err(|source| CryptoError::Random { source: Box::new(source) })
    }
}

/// `N` random bytes that are not secret: salts, ids. For keys use [`crate::Secret::generate`].
///
/// # Errors
/// [`CryptoError::Random`] when `rng` fails.
pub fn array<const N: usize>(rng: &dyn Rng) -> Result<[u8; N], CryptoError> {
    let mut out = [0; N];
    rng.fill(&mut out)?;
    Ok(out)
}

/// A generator whose bytes follow from its seed. It protects nothing and exists only with the feature `testing`.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct SeededRng {
    stream: blake3::OutputReader,
    offset: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "testing"))]
impl SeededRng {
    /// The BLAKE3 output stream of `seed` (8 bytes, little-endian).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        Self { stream, offset: std::sync::atomic::AtomicU64::new(0) }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        let offset = self.offset.fetch_add(out.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let mut stream = self.stream.clone();
        stream.set_position(offset);
        stream.fill(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_bytes_are_one_stream() {
        let (whole, parts) = (SeededRng::new(7), SeededRng::new(7));
        let expected: [u8; 96] = array(&whole).unwrap();
        let first: [u8; 33] = array(&parts).unwrap();
        let last: [u8; 63] = array(&parts).unwrap();
        assert_eq!([&first[..], &last[..]].concat(), expected);
        assert_ne!(array::<32>(&SeededRng::new(8)).unwrap(), expected[..32]);
    }

    #[test]
    fn system_bytes_differ() {
        assert_ne!(array::<32>(&OsRng).unwrap(), array::<32>(&OsRng).unwrap());
    }
}
