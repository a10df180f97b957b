//! The CBOR profile of the format (specification section 1.1): one encoding for each value.
//!
//! The decoder works on a slice, allocates nothing, and rejects every encoding the encoder would not have made.

use crate::error::FormatError;
use crate::limits::{CBOR_DEPTH_MAX, CBOR_MAP_KEY_MAX, TEXT_LEN_MAX};

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Appends CBOR to a byte vector.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An encoder with nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// An encoder that appends to `out`.
    #[must_use]
    pub const fn append_to(out: Vec<u8>) -> Self {
        Self { out }
    }

    /// The bytes written so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let be = value.to_be_bytes();
        if value < 24 {
            self.out.push(major | be[7]);
        } else if value <= 0xff {
            self.out.extend_from_slice(&[major | 24, be[7]]);
        } else if value <= 0xffff {
            self.out.extend_from_slice(&[major | 25, be[6], be[7]]);
        } else if value <= 0xffff_ffff {
            self.out.push(major | 26);
            self.out.extend_from_slice(&be[4..]);
        } else {
            self.out.push(major | 27);
            self.out.extend_from_slice(&be);
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.head(UINT, value);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        if value < 0 { self.head(NEGATIVE, !value as u64) } else { self.head(UINT, value as u64) }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The head of an array of `count` items, which the caller writes next.
    pub fn array(&mut self, count: usize) {
        self.head(ARRAY, count as u64);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xf5 } else { 0xf4 });
    }

    /// Bytes that are CBOR already.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// A map, written by `fill` through [`MapEncoder::key`].
    ///
    /// # Panics
    /// When `fill` writes keys out of order or more than 23: a slip of the writer, never of the input.
    pub fn map(&mut self, fill: impl FnOnce(&mut MapEncoder<'_>)) {
        let head = self.out.len();
        self.out.push(0);
        let mut map = MapEncoder { encoder: self, count: 0, last: None };
        fill(&mut map);
        let count = map.count;
        self.out[head] = (MAP << 5) | count;
    }
}

/// Writes the keys and values of one map.
#[derive(Debug)]
pub struct MapEncoder<'e> {
    encoder: &'e mut Encoder,
    count: u8,
    last: Option<u64>,
}

impl MapEncoder<'_> {
    /// Writes `key` and returns the encoder for its one value.
    ///
    /// # Panics
    /// When keys do not ascend, or there are more than 23.
    pub fn key(&mut self, key: u64) -> &mut Encoder {
        assert!(self.last.is_none_or(|last| last < key), "map keys ascend");
        assert!(u64::from(self.count) < CBOR_MAP_KEY_MAX, "a map has at most 23 keys");
        self.last = Some(key);
        self.count += 1;
        self.encoder.uint(key);
        self.encoder
    }
}

/// Reads CBOR from a slice.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    object: &'static str,
    input: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of `input`; `object` names it in errors.
    #[must_use]
    pub const fn new(object: &'static str, input: &'a [u8]) -> Self {
        Self { object, input, position: 0 }
    }

    /// The error that `rule` is broken here.
    #[must_use]
    pub const fn fail(&self, rule: &'static str) -> FormatError {
        FormatError::malformed(self.object, self.position, rule)
    }

    /// How far the decoder has read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when bytes remain.
    pub fn finish(&self) -> Result<(), FormatError> {
        if self.position == self.input.len() { Ok(()) } else { Err(self.fail("bytes left over at the end")) }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], FormatError> {
        let rest = &self.input[self.position..];
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
        let len = len.ok_or_else(|| self.fail("it ends too early"))?;
        self.position += len;
        Ok(&rest[..len])
    }

    fn peek_major(&self) -> Option<u8> {
        self.input.get(self.position).map(|byte| byte >> 5)
    }

    fn head(&mut self, major: u8, rule: &'static str) -> Result<u64, FormatError> {
        if self.peek_major() != Some(major) {
            return Err(self.fail(rule));
        }
        self.head_any().map(|(_, value)| value)
    }

    fn head_any(&mut self) -> Result<(u8, u64), FormatError> {
        let first = self.take(1)?[0];
        let (value, least) = match first & 31 {
            small @ 0..24 => (u64::from(small), 0),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (self.take(2)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), 0x100),
            26 => (self.take(4)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), 0x1_0000),
            27 => (self.take(8)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), 0x1_0000_0000),
            _ => return Err(self.fail("indefinite lengths are not allowed")),
        };
        if value < least {
            return Err(self.fail("a number is not in its shortest form"));
        }
        Ok((first >> 5, value))
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when something else stands here; so for every reading method.
    pub fn uint(&mut self) -> Result<u64, FormatError> {
        self.head(UINT, "an unsigned integer is expected")
    }

    /// An unsigned integer of at most 32 bits.
    pub fn uint32(&mut self) -> Result<u32, FormatError> {
        let value = self.uint()?;
        u32::try_from(value).map_err(|_| self.fail("a number is above 32 bits"))
    }

    /// A signed integer of 64 bits.
    pub fn int(&mut self) -> Result<i64, FormatError> {
        let negative = self.peek_major() == Some(NEGATIVE);
        let value = self.head(if negative { NEGATIVE } else { UINT }, "an integer is expected")?;
        let value = i64::try_from(value).map_err(|_| self.fail("a number is above 63 bits"))?;
        Ok(if negative { !value } else { value })
    }

    /// A byte string of at most `len_max` bytes.
    pub fn bytes(&mut self, len_max: u64) -> Result<&'a [u8], FormatError> {
        let len = self.head(BYTES, "a byte string is expected")?;
        if len > len_max {
            return Err(self.fail("a byte string is over its limit"));
        }
        self.take(len)
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| self.fail("a byte string is shorter than it must be"))
    }

    /// A text string of at most `len_max` bytes.
    pub fn text(&mut self, len_max: u64) -> Result<&'a str, FormatError> {
        let len = self.head(TEXT, "a text string is expected")?;
        if len > len_max {
            return Err(self.fail("a text string is over its limit"));
        }
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.fail("a text string is not UTF-8"))
    }

    /// A truth value.
    pub fn bool(&mut self) -> Result<bool, FormatError> {
        match self.take(1)?[0] {
            0xf4 => Ok(false),
            0xf5 => Ok(true),
            _ => Err(self.fail("a truth value is expected")),
        }
    }

    /// The head of an array; the caller reads that many items.
    pub fn array(&mut self, count_max: u64) -> Result<usize, FormatError> {
        let count = self.head(ARRAY, "an array is expected")?;
        let left = self.input.len() - self.position;
        match usize::try_from(count) {
            Ok(count) if count as u64 <= count_max && count <= left => Ok(count),
            _ => Err(self.fail("an array is over its limit")),
        }
    }

    /// Whether an array stands here.
    #[must_use]
    pub fn at_array(&self) -> bool {
        self.peek_major() == Some(ARRAY)
    }

    /// The start of a map; read its keys with [`MapDecoder::next_key`].
    pub fn map(&mut self) -> Result<MapDecoder, FormatError> {
        let count = self.head(MAP, "a map is expected")?;
        if count > CBOR_MAP_KEY_MAX {
            return Err(self.fail("a map has too many keys"));
        }
        Ok(MapDecoder { left: count, last: None })
    }

    /// The bytes of the next value, whatever it is, checked against the profile. The value is taken to stand on its
    /// own: arrays and maps around it do not count towards the limit of nesting.
    pub fn raw(&mut self) -> Result<&'a [u8], FormatError> {
        self.raw_within(0)
    }

    /// As [`Self::raw`], for a value inside of `depth` arrays and maps.
    pub(crate) fn raw_within(&mut self, depth: u32) -> Result<&'a [u8], FormatError> {
        let start = self.position;
        self.skip(depth)?;
        Ok(&self.input[start..self.position])
    }

    fn skip(&mut self, depth: u32) -> Result<(), FormatError> {
        let nests = matches!(self.peek_major(), Some(ARRAY | MAP));
        if nests && depth >= CBOR_DEPTH_MAX {
            return Err(self.fail("it is nested too deeply"));
        }
        match self.peek_major() {
            Some(UINT) => self.uint().map(drop),
            Some(NEGATIVE) => self.int().map(drop),
            Some(BYTES) => self.bytes(u64::MAX).map(drop),
            Some(TEXT) => self.text(TEXT_LEN_MAX).map(drop),
            Some(ARRAY) => {
                let count = self.array(u64::MAX)?;
                (0..count).try_for_each(|_| self.skip(depth + 1))
            }
            Some(MAP) => {
                let mut map = self.map()?;
                while map.next_key(self)?.is_some() {
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Some(7) => self.bool().map(drop),
            Some(_) => Err(self.fail("tags are not allowed")),
            None => Err(self.fail("it ends too early")),
        }
    }
}

/// Reads the keys of one map in order.
#[derive(Debug)]
pub struct MapDecoder {
    left: u64,
    last: Option<u64>,
}

impl MapDecoder {
    /// The next key, or `None` at the end; the caller then reads its value from the same decoder.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when keys are not ascending unsigned integers.
    pub fn next_key(&mut self, decoder: &mut Decoder<'_>) -> Result<Option<u64>, FormatError> {
        if self.left == 0 {
            return Ok(None);
        }
        let key = decoder.head(UINT, "map keys are unsigned integers")?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(decoder.fail("map keys are not ascending"));
        }
        self.left -= 1;
        self.last = Some(key);
        Ok(Some(key))
    }
}

/// Keys that this version does not know, kept so that re-encoding loses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(u64, Vec<u8>)>);

impl Unknown {
    /// Keeps the value that stands at the decoder, inside of `depth` arrays and maps.
    pub(crate) fn keep(
        &mut self,
        key: u64,
        decoder: &mut Decoder<'_>,
        depth: u32,
    ) -> Result<(), FormatError> {
        let value = decoder.raw_within(depth)?.to_vec();
        self.0.push((key, value));
        Ok(())
    }

    /// Writes key 0 if it was kept: the only unknown key that lies below the known ones.
    pub(crate) fn write_low(&self, map: &mut MapEncoder<'_>) {
        self.0.iter().filter(|(key, _)| *key == 0).for_each(|(key, value)| map.key(*key).raw(value));
    }

    /// Writes the kept keys that lie above the known ones.
    pub(crate) fn write(&self, map: &mut MapEncoder<'_>) {
        self.0.iter().filter(|(key, _)| *key > 0).for_each(|(key, value)| map.key(*key).raw(value));
    }
}

/// Reads an array of 32-byte names, ascending, none twice.
pub(crate) fn names(decoder: &mut Decoder<'_>, count_max: u64) -> Result<Vec<[u8; 32]>, FormatError> {
    let count = decoder.array(count_max)?;
    let mut names: Vec<[u8; 32]> = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let name = decoder.fixed::<32>()?;
        if names.last().is_some_and(|last| *last >= name) {
            return Err(decoder.fail("names are not ascending"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Writes an array of byte strings.
pub(crate) fn write_names<const N: usize>(encoder: &mut Encoder, names: &[[u8; N]]) {
    encoder.array(names.len());
    for name in names {
        encoder.bytes(name);
    }
}

#[cfg(test)]
mod tests;
