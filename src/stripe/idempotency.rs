//! The `Idempotency-Key` of a call: a function of what is asked, so that the same request of our own client, sent again at any time, is the
//! same to Stripe, and any other is another.
//!
//! It has the account, the customer's id and which of the customers under that id it is (a customer that is removed and made again is a
//! new one at Stripe, too), and the form: Stripe refuses a key that comes with other parameters than the first time, for 24 h, and a
//! request that was put right must not run into that. It has the log's identity as well: two gateways may share an account at Stripe.

use sha2::{Digest as _, Sha256};

use super::NewCustomer;
use crate::customers::Life;

/// Makes keys for one log.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKeys {
    log_id: [u8; 16],
}

/// For whom a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeFor {
    /// The account.
    pub account: u32,
    /// Which of the customers that have had the id.
    pub life: Life,
}

impl IdempotencyKeys {
    /// The keys of a log.
    pub fn new(log_id: [u8; 16]) -> Self {
        Self { log_id }
    }

    /// The key of a call: 73 characters, Stripe takes up to 255.
    pub fn of(&self, made_for: MadeFor, new: &NewCustomer<'_>) -> String {
        let mut hash = Sha256::new();
        hash.update(b"tollgate customer 1\0");
        hash.update(self.log_id);
        hash.update(made_for.account.to_be_bytes());
        hash.update(made_for.life.to_be_bytes());
        // The form has the customer's id.
        hash.update(new.form());
        format!("tollgate-{}", hex::encode(hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customers::Address;

    #[test]
    fn the_same_call_has_the_same_key_and_any_other_another() {
        let address = Address::default();
        let new = NewCustomer { account: "default", id: "acme", name: "Acme", email: None, description: None, address: &address };
        let made_for = MadeFor { account: 1, life: 0 };
        let keys = IdempotencyKeys::new([1; 16]);
        let key = keys.of(made_for, &new);
        assert_eq!(keys.of(made_for, &new), key);
        assert!(key.len() <= 255 && key.starts_with("tollgate-"), "{key}");
        let others = [
            keys.of(MadeFor { account: 2, ..made_for }, &new),
            keys.of(MadeFor { life: 1, ..made_for }, &new),
            keys.of(made_for, &NewCustomer { id: "other", ..new }),
            keys.of(made_for, &NewCustomer { name: "Other", ..new }),
            IdempotencyKeys::new([2; 16]).of(made_for, &new),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != key && !others[..at].contains(other), "{at}");
        }
    }
}
