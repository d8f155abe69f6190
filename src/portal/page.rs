//! What stands on the pages: texts and shapes, from what was read. The templates (`src/portal/templates`) put them into HTML and escape all of them, save
//! for the style sheet, which is ours.

mod invoice;
mod overview;

use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

pub(super) use invoice::{InvoicePage, InvoicesPage};
pub(super) use overview::OverviewPage;

/// Between the tags of the style element, and nothing but this may be there.
const STYLE: &str = include_str!("templates/style.css");

/// What a browser may do with a page: show it, with this style sheet, and nothing else; no page of anybody may hold it.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
});

/// What is around every page.
pub(super) struct Frame {
    /// For the browser's tab.
    title: String,
    /// Where "back" leads.
    return_url: Option<String>,
    /// Until when the link is good, for people.
    expires: Option<String>,
    style: &'static str,
}

impl Frame {
    pub(super) fn new(title: impl Into<String>, return_url: Option<String>, expires: Option<String>) -> Self {
        Self { title: title.into(), return_url, expires, style: STYLE }
    }
}

/// A page that says why there is no other.
#[derive(Template)]
#[template(config = "src/portal/askama.toml", path = "message.html")]
pub(super) struct MessagePage {
    frame: Frame,
    text: String,
}

impl MessagePage {
    pub(super) fn new(title: &str, text: impl Into<String>, return_url: Option<String>) -> Self {
        Self { frame: Frame::new(title, return_url, None), text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_said_is_text_and_never_markup() {
        let hostile = "</title><script>alert(1)</script>\"'&";
        let page = MessagePage::new(hostile, hostile, Some("https://a.test/\"><script>".into())).render().expect("a page");
        assert!(!page.contains("<script") && !page.contains("</title><"), "{page}");
        assert!(page.contains("&#60;script&#62;"), "{page}");
    }

    #[test]
    fn the_policy_names_the_one_style_sheet_that_is_on_the_page() {
        let page = MessagePage::new("t", "x", None).render().expect("a page");
        let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).expect("a style").0;
        assert!(POLICY.contains(&STANDARD.encode(Sha256::digest(style))));
    }
}
