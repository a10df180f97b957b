//! Listing: page by page, in whatever order the store has.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};

use aws_sdk_s3::types::EncodingType;

use super::S3Store;
use crate::{Attempt, ItemKind, ListItem, ObjectKey, StoreError};

/// Pages of one listing, at most: with a thousand names each, more than a billion.
const PAGE_COUNT_MAX: usize = 1 << 20;

/// Goes from page to page of a listing, and ends one that would never end.
#[derive(Default)]
pub(super) struct Pages {
    /// Where pages began, each as a hash.
    begun: HashSet<u64>,
    hasher: RandomState,
}

impl Pages {
    /// Whether the page that begins at `token` may be asked for; else what is wrong.
    pub(super) fn check(&mut self, token: &impl Hash) -> Result<(), &'static str> {
        if !self.begun.insert(self.hasher.hash_one(token)) {
            return Err("the listing goes round in circles: the store gives a page that it gave before");
        }
        if self.begun.len() > PAGE_COUNT_MAX {
            return Err("the listing does not end");
        }
        Ok(())
    }
}

/// Makes a request and leaves it at that.
pub(super) fn once(request: &mut dyn FnMut() -> Result<(), StoreError>) -> Result<(), StoreError> {
    request()
}

/// What a request gives that `attempt` makes; nothing, if it makes none.
pub(super) fn made<T>(
    attempt: Attempt<'_>,
    mut request: impl FnMut() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut given = None;
    attempt(&mut || {
        given = Some(request()?);
        Ok(())
    })?;
    Ok(given)
}

impl S3Store {
    /// One page of names, and what the next one is asked for with.
    pub(super) async fn page(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        token: Option<String>,
    ) -> Result<(Vec<ListItem>, Option<String>), StoreError> {
        // Only a store that lists in the order of names understands by it what is meant: elsewhere, what is to be shown may stand
        // before that name. AWS promises the order; IBM says that there is none; of others nothing is known, and an order that was
        // seen once is no promise.
        let after = start_after.filter(|_| token.is_none() && self.is_sorted).map(|after| self.full(after));
        let output = self
            .client()
            .list_objects_v2()
            .bucket(&self.location.bucket)
            .prefix(self.full(prefix))
            .encoding_type(EncodingType::Url)
            .set_start_after(after)
            .set_continuation_token(token)
            .send()
            .await
            .map_err(|error| self.sdk(prefix, error))?;
        let is_encoded = output.encoding_type == Some(EncodingType::Url);
        let mut items = Vec::new();
        for object in output.contents.unwrap_or_default() {
            let Some(name) = object.key.map(|key| decode(&key, is_encoded)) else { continue };
            let Some(name) = name.strip_prefix(&self.prefix) else { continue };
            if !name.starts_with(prefix) || start_after.is_some_and(|after| name <= after) {
                continue;
            }
            let kind = match ObjectKey::new(name) {
                Ok(_) => ItemKind::Object,
                Err(_) => ItemKind::Foreign,
            };
            let len = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            items.push(ListItem { name: name.to_owned(), len, kind });
        }
        match (output.is_truncated, output.next_continuation_token) {
            (Some(true), None) => {
                Err(self.odd(prefix, "the listing breaks off without saying where it goes on"))
            }
            (Some(true), token) => Ok((items, token)),
            _ => Ok((items, None)),
        }
    }
}

/// A name as it was before a listing encoded it. Bytes that are no UTF-8 are replaced.
pub(super) fn decode(text: &str, is_encoded: bool) -> String {
    if !is_encoded || !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(decoded) => {
                        bytes.push(decoded);
                        rest = &after[2..];
                    }
                    None => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_when_they_were_encoded() {
        assert_eq!(decode("a%2Fb+c%25%C3%A9", true), "a/b c%é");
        assert_eq!(decode("a%2Fb+c", false), "a%2Fb+c");
        assert_eq!(decode("100%", true), "100%");
        assert_eq!(decode("%zz%2", true), "%zz%2");
    }
}
