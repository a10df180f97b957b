//! The object `store`: which of a vault's stores this is (specification section 2.1).

use crate::error::FormatError;

const OBJECT: &str = "store id";
const MAGIC: &[u8; 16] = b"coffer store\n\0\0\x01";

/// Length of the object in bytes.
pub const STORE_LEN: usize = 48;

/// The id of the store in which a vault is made: 16 zero bytes.
pub const FIRST_STORE: [u8; 16] = [0; 16];

/// The bytes of the object `store`.
#[must_use]
pub fn encode_store(id: &[u8; 16]) -> [u8; STORE_LEN] {
    let mut bytes = [0; STORE_LEN];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..32].copy_from_slice(id);
    let check = check_of(id);
    bytes[32..].copy_from_slice(&check);
    bytes
}

/// What tells an id from one that was damaged: the first half of the hash of what stands before it.
fn check_of(id: &[u8; 16]) -> [u8; 16] {
    let hash = blake3::Hasher::new().update(MAGIC).update(id).finalize();
    std::array::from_fn(|at| hash.as_bytes()[at])
}

/// Reads the object `store`.
///
/// # Errors
/// [`FormatError::Malformed`] when it is none.
pub fn decode_store(bytes: &[u8]) -> Result<[u8; 16], FormatError> {
    let (id, check) = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<16>())
        .ok_or_else(|| FormatError::rule(OBJECT, "it is not what a store id looks like"))?;
    if check == check_of(id) { Ok(*id) } else { Err(FormatError::rule(OBJECT, "its hash is another one")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_id_is_read_back_and_nothing_else_is_one() {
        let bytes = encode_store(&[7; 16]);
        assert_eq!(decode_store(&bytes), Ok([7; 16]));
        assert_eq!(&bytes[..13], b"coffer store\n");
        for cut in 0..bytes.len() {
            assert!(decode_store(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut long = bytes.to_vec();
        long.push(0);
        assert!(decode_store(&long).is_err());
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert!(decode_store(&other).is_err(), "{at}");
        }
        assert_eq!(decode_store(&encode_store(&FIRST_STORE)), Ok(FIRST_STORE));
    }
}
