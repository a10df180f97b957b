//! BLAKE3: `H` and `KH` of the format.

use std::fmt;

use zeroize::Zeroize;

/// Length of a hash in bytes.
pub const HASH_LEN: usize = 32;

/// `H(bytes)`.
#[must_use]
pub fn hash(bytes: &[u8]) -> [u8; HASH_LEN] {
    *blake3::hash(bytes).as_bytes()
}

/// SHA-256 of `bytes`, for check sums that other programs compare; nothing in a vault is named by it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// `KH(key, bytes)`.
#[must_use]
pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> [u8; HASH_LEN] {
    *blake3::keyed_hash(key, bytes).as_bytes()
}

/// `H` or `KH` of bytes that come in parts. The state is wiped on drop.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts `H`.
    #[must_use]
    pub fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    /// Starts `KH` under `key`.
    #[must_use]
    pub fn new_keyed(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The hash of all bytes so far; more may follow.
    #[must_use]
    pub fn finalize(&self) -> [u8; HASH_LEN] {
        *self.0.finalize().as_bytes()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_equal_whole() {
        let bytes: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut plain, mut keyed_parts) = (Hasher::new(), Hasher::new_keyed(&[3; 32]));
        for part in bytes.chunks(777) {
            plain.update(part);
            keyed_parts.update(part);
        }
        assert_eq!(plain.finalize(), hash(&bytes));
        assert_eq!(keyed_parts.finalize(), keyed(&[3; 32], &bytes));
        assert_ne!(plain.finalize(), keyed_parts.finalize());
    }

    #[test]
    fn empty_input_has_the_published_hash() {
        // The first vector of the BLAKE3 specification's own test set, input length 0.
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let hex: String = hash(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
