use super::*;

#[test]
fn an_id_says_whose_invoice_it_is_and_when_it_begins() {
    for (customer, start_h) in [("acme", 0), ("a/b c", 490_896), ("é".repeat(127).as_str(), u32::MAX)] {
        let customer = CustomerId::parse(customer).expect("an id");
        let id = InvoiceId::new(&customer, start_h);
        assert_eq!(InvoiceId::parse(id.as_str()), Some((customer, start_h)));
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id:?}");
    }
    for text in ["", "acme", "AAAA", "AAAAAA", "B30=", "+++++++++", "AAAA____"] {
        assert_eq!(InvoiceId::parse(text), None, "{text}");
    }
}
