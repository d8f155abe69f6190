//! What a link gives: the right to read one customer of one account for a while. A signed token.
//!
//! ```text
//! "tgp_" base64url( version 1 | account u32 | life u32 | expires i64, ms | key id | customer | return url | HMAC-SHA-256 of all that )
//! ```
//!
//! Numbers are big endian; a text is its length (u16) and its bytes. The key of the HMAC is made once and kept in the store: a token is
//! good on every node and after every restart, and nothing has to be written for one. What ends one before its time is looked up when it
//! is used: its account, the API key that it was made with, and which of the customers under its id it is about.
//!
//! Rejected: a random secret whose hash is stored. It could be revoked one by one, but whoever opens a page would cost a synced commit, and
//! something would have to sweep them up.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use crate::clock::UnixMillis;
use crate::customers::{CustomerId, Life};
use crate::store::Store;
use crate::store::secret::{self, SecretError};

/// The document's id.
const ID: &str = "portal-key";
const MAC_BYTES: usize = 32;
const VERSION: u8 = 1;
const PREFIX: &str = "tgp_";
/// What is signed begins so, so that the key's signatures are of nothing else.
const DOMAIN: &[u8] = b"tollgate portal\0";
/// Longest token: all parts at their limits have less. A cookie has room for 4,096 bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 2_048;
/// Longest return url, in bytes.
pub const RETURN_URL_BYTES_MAX: usize = 1_024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) account: u32,
    /// Which of the customers that have had the id.
    pub(super) life: Life,
    pub(super) expires: UnixMillis,
    /// Id of the API key that it was made with.
    pub(super) key_id: String,
    pub(super) customer: CustomerId,
    /// Where "back" leads.
    pub(super) return_url: Option<String>,
}

/// Signs tokens, and checks them.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Reads the key, or makes it if there is none. Blocks.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open(store: &dyn Store) -> Result<Self, SecretError> {
        let bytes = secret::shared(store, ID, "key")?;
        // It takes keys of any length.
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| SecretError::Damaged { id: ID })
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(DOMAIN);
        mac.update(payload);
        mac
    }

    /// The token of some claims.
    pub(super) fn sign(&self, claims: &Claims) -> String {
        let mut bytes = claims.write();
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token says, if this key signed it. How long that takes says nothing about the signature.
    pub(super) fn read(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (payload, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        self.mac(payload).verify_slice(mac).ok()?;
        Claims::read(payload)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(hidden)")
    }
}

/// What a session is called in paths: tells nothing of the token.
pub(super) fn session_id(token: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(token).into();
    hex::encode(&digest[..8])
}

impl Claims {
    fn write(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.account.to_be_bytes());
        bytes.extend(self.life.to_be_bytes());
        bytes.extend(self.expires.0.to_be_bytes());
        for text in [&self.key_id, self.customer.as_str(), self.return_url.as_deref().unwrap_or_default()] {
            // None of them is longer than 1,024 bytes.
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let mut rest = Rest(payload);
        if *rest.take()? != [VERSION] {
            return None;
        }
        let (account, life) = (u32::from_be_bytes(*rest.take()?), u32::from_be_bytes(*rest.take()?));
        let expires = UnixMillis(i64::from_be_bytes(*rest.take()?));
        let (key_id, customer, return_url) = (rest.text()?.to_owned(), CustomerId::parse(rest.text()?).ok()?, rest.text()?);
        let return_url = Some(return_url.to_owned()).filter(|url| !url.is_empty());
        rest.0.is_empty().then_some(Self { account, life, expires, key_id, customer, return_url })
    }
}

/// What is not read yet.
struct Rest<'p>(&'p [u8]);

impl<'p> Rest<'p> {
    fn take<const N: usize>(&mut self) -> Option<&'p [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'p str> {
        let length = u16::from_be_bytes(*self.take()?);
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::memory::MemoryStore;

    fn claims(customer: &str, return_url: Option<&str>) -> Claims {
        Claims {
            account: 7,
            life: 1,
            expires: UnixMillis(1_767_225_600_000),
            key_id: "0123456789abcdef".into(),
            customer: CustomerId::parse(customer).expect("an id"),
            return_url: return_url.map(str::to_owned),
        }
    }

    fn key() -> SigningKey {
        SigningKey::open(&MemoryStore::default()).expect("memory")
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read_and_fits_a_cookie(
            customer in "\\PC{1,60}", url in proptest::option::of("https://\\PC{1,40}"), numbers in any::<(u32, u32, i64)>(),
        ) {
            let (account, life, expires) = (numbers.0, numbers.1, UnixMillis(numbers.2));
            let claims = Claims { account, life, expires, ..claims(&customer, url.as_deref()) };
            let key = key();
            let token = key.sign(&claims);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(key.read(&token), Some(claims));
        }

        #[test]
        fn nothing_else_is_a_token(text in "\\PC{0,80}", bytes in any::<Vec<u8>>()) {
            let key = key();
            for text in [text.clone(), format!("tgp_{text}"), format!("tgp_{}", URL_SAFE_NO_PAD.encode(&bytes))] {
                prop_assert_eq!(key.read(&text), None);
            }
            let _claims = Claims::read(&bytes);
        }
    }

    #[test]
    fn the_longest_token_is_within_the_limit() {
        let url = format!("https://{}", "a".repeat(RETURN_URL_BYTES_MAX - 8));
        let token = key().sign(&claims(&"c".repeat(255), Some(&url)));
        assert!(token.len() <= TOKEN_BYTES_MAX, "{}", token.len());
    }

    #[test]
    fn no_character_of_a_token_can_be_another() {
        let key = key();
        let token = key.sign(&claims("acme", None));
        for at in 0..token.len() {
            for other in ["A", "B", "-", "_", "=", "/"] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, other);
                assert!(changed == token || key.read(&changed).is_none(), "{changed}");
            }
        }
        for shorter in 0..token.len() {
            assert_eq!(key.read(&token[..shorter]), None);
        }
        assert_eq!(key.read(&format!("{token}A")), None);
    }

    #[test]
    fn all_nodes_of_a_store_have_one_key_and_those_of_another_store_another() {
        let (store, other) = (MemoryStore::default(), MemoryStore::default());
        let token = SigningKey::open(&store).expect("made").sign(&claims("acme", None));
        assert!(SigningKey::open(&store).expect("read").read(&token).is_some());
        assert!(SigningKey::open(&other).expect("made").read(&token).is_none());
        assert_eq!(format!("{:?}", SigningKey::open(&store)), "Ok(SigningKey(hidden))");
    }

    #[test]
    fn a_session_id_is_not_the_token() {
        let token = key().sign(&claims("acme", None));
        assert_eq!(session_id(&token).len(), 16);
        assert_ne!(session_id(&token), session_id(&token[..token.len() - 1]));
    }
}
