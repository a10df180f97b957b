//! Wrapping by AES-KWP (RFC 5649).
//!
//! `C_WrapKey` and `C_UnwrapKey` work on objects of the token, not on bytes. So what a slot holds becomes an object of the session for the
//! length of a call: never one of the token, seen by nobody outside of this process, and destroyed however the call ends. What it refuses to
//! do: it takes nothing that is not as long as RFC 5649 makes it, because tokens exist that pad in another way under the same name.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use zeroize::{Zeroize, Zeroizing};

use super::error::TokenError;
use super::mechanism::unless_refused;
use super::session::OpenToken;

/// 64 bytes, after 8 of RFC 5649.
const WRAPPED_LEN: usize = 72;

/// An object that is there as long as this is.
struct SessionObject<'a> {
    token: &'a OpenToken,
    handle: ObjectHandle,
}

impl Drop for SessionObject<'_> {
    fn drop(&mut self) {
        // If this fails, it ends with the session.
        drop(self.token.session.destroy_object(self.handle));
    }
}

/// Wraps the content of a slot with the key of the token.
pub(super) fn wrap(
    token: &OpenToken,
    wrapping_key: ObjectHandle,
    plain: &[u8; 64],
) -> Result<Vec<u8>, TokenError> {
    let mut template = template(token, true);
    template.push(Attribute::Value(plain.to_vec()));
    let created = token.session.create_object(&template);
    for attribute in &mut template {
        if let Attribute::Value(value) = attribute {
            value.zeroize();
        }
    }
    let object = SessionObject { token, handle: created.map_err(|error| token.failed(&error))? };
    let wrapped = token.session.wrap_key(&Mechanism::AesKeyWrapPad, wrapping_key, object.handle);
    let mut wrapped = wrapped.map_err(|error| token.failed(&error))?;
    // A token may ask for more room than it fills; what it has not filled is zero.
    if wrapped.iter().skip(WRAPPED_LEN).all(|byte| *byte == 0) {
        wrapped.truncate(WRAPPED_LEN);
    }
    Ok(wrapped)
}

/// Unwraps the content of a slot with the key of the token; nothing if it was not wrapped with it.
pub(super) fn unwrap(
    token: &OpenToken,
    wrapping_key: ObjectHandle,
    wrapped: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
    if wrapped.len() != WRAPPED_LEN {
        return Ok(None);
    }
    let template = template(token, false);
    let unwrapped = token.session.unwrap_key(&Mechanism::AesKeyWrapPad, wrapping_key, wrapped, &template);
    let Some(handle) = unless_refused(unwrapped).map_err(|error| token.failed(&error))? else {
        return Ok(None);
    };
    let object = SessionObject { token, handle };
    let values = token.session.get_attributes(object.handle, &[AttributeType::Value]);
    for attribute in values.map_err(|error| token.failed(&error))? {
        if let Attribute::Value(value) = attribute {
            return Ok(Some(Zeroizing::new(value)));
        }
    }
    // It took the template, and made something else of it.
    Err(TokenError::NotPermitted {
        token: token.name(),
        call: "C_GetAttributeValue gave no CKA_VALUE".to_owned(),
    })
}

/// A secret of this session that may be wrapped; one that is not sensitive can be read as well.
fn template(token: &OpenToken, sensitive: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        // A token without PINs has no private objects.
        Attribute::Private(token.has_login()),
        Attribute::Sensitive(sensitive),
        Attribute::Extractable(true),
    ]
}
