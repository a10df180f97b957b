//! Random names and secrets, and the two text forms that they need.

const WORD_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness nothing of this process works")]
    getrandom::fill(&mut out).expect("the operating system has randomness");
    out
}

/// So many letters of the URL-safe base64 alphabet.
pub(crate) fn word(len: usize) -> String {
    (0..len).map(|_| char::from(WORD_LETTERS[usize::from(bytes::<1>()[0] & 63)])).collect()
}

/// So many random bytes as hexadecimal digits.
pub(crate) fn hex(byte_count: usize) -> String {
    (0..byte_count).map(|_| format!("{:02x}", bytes::<1>()[0])).collect()
}

/// A random identifier as UUIDs are written.
pub(crate) fn uuid() -> String {
    let digits = hex(16);
    let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..]);
    format!("{a}-{b}-4{c}-8{d}-{e}")
}
