//! What Stripe is told of a customer.

use form_urlencoded::Serializer;

use crate::customers::Address;

/// A customer that is to be made. What is empty or absent is left out.
#[derive(Debug, Clone, Copy)]
pub struct NewCustomer<'c> {
    /// The name of its account here.
    pub account: &'c str,
    /// Its id here.
    pub id: &'c str,
    /// Its name.
    pub name: &'c str,
    /// Its e-mail.
    pub email: Option<&'c str>,
    /// What it is.
    pub description: Option<&'c str>,
    /// Where it is.
    pub address: &'c Address,
}

impl NewCustomer<'_> {
    /// As Stripe reads it: `application/x-www-form-urlencoded`.
    pub fn form(&self) -> String {
        let address = self.address;
        let optional = [
            ("email", self.email),
            ("description", self.description),
            ("address[line1]", address.line1.as_deref()),
            ("address[line2]", address.line2.as_deref()),
            ("address[city]", address.city.as_deref()),
            ("address[state]", address.state.as_deref()),
            ("address[postal_code]", address.postal_code.as_deref()),
            ("address[country]", address.country.as_deref()),
        ];
        let mut form = Serializer::new(String::new());
        form.append_pair("name", self.name);
        for (name, text) in optional {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                form.append_pair(name, text);
            }
        }
        form.append_pair("metadata[customerId]", self.id).append_pair("metadata[account]", self.account);
        form.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_stripe_reads_is_what_was_said(id in "\\PC{1,20}", name in "\\PC{1,20}", email in "\\PC{0,20}", city in "\\PC{0,20}") {
            let address = Address { city: Some(city.clone()), ..Address::default() };
            let new = NewCustomer { account: "a&b=c", id: &id, name: &name, email: Some(&email), description: None, address: &address };
            let pairs: Vec<(String, String)> = form_urlencoded::parse(new.form().as_bytes()).into_owned().collect();
            let mut expected = vec![("name", name.as_str())];
            expected.extend([("email", email.as_str()), ("address[city]", city.as_str())].into_iter().filter(|(_, text)| !text.is_empty()));
            expected.extend([("metadata[customerId]", id.as_str()), ("metadata[account]", "a&b=c")]);
            let expected: Vec<_> = expected.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
            prop_assert_eq!(pairs, expected);
        }
    }
}
