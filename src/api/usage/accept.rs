//! Which form of an answer a client wants: JSON, unless it says that it likes CSV better (RFC 9110, 12.5.1). What it cannot take is JSON all the
//! same: clients that send a wrong `Accept` read JSON.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The media type of an answer, unless CSV is wanted.
pub(super) const JSON: &str = "application/json";
/// The media type of CSV.
pub(super) const CSV: &str = "text/csv; charset=utf-8; header=present";

/// Whether `Accept` gives CSV a greater weight than JSON.
pub(in crate::api) fn prefers_csv(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let ranges: Vec<(&str, u32)> = ranges.filter_map(range).collect();
    weight(&ranges, ["text/csv", "text/*", "*/*"]) > weight(&ranges, ["application/json", "application/*", "*/*"])
}

/// A media range and its weight in thousandths; its other parameters are not looked at.
fn range(text: &str) -> Option<(&str, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    match weight {
        None => Some((name, 1_000)),
        // A weight that is none: the range says nothing.
        Some((_, text)) => text.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).map(|q| (name, (q * 1_000.0) as u32)),
    }
}

/// The weight of the first of these names that is there: the most specific one decides. 0: none of them.
fn weight(ranges: &[(&str, u32)], names: [&str; 3]) -> u32 {
    let of = |wanted: &str| ranges.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, weight)| *weight);
    names.into_iter().find_map(of).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_those_who_like_it_better() {
        for (accept, is_csv) in [
            (&[][..], false),
            (&["text/csv"], true),
            (&["TEXT/CSV; header=present"], true),
            (&["text/*"], true),
            (&["text/csv, */*;q=0.1"], true),
            (&["application/json;q=0.4", "text/csv;q=0.5"], true),
            (&["*/*"], false),
            (&["application/json"], false),
            (&["text/csv, application/json"], false),
            (&["text/csv;q=0.5, application/json"], false),
            (&["text/csv;q=0, */*"], false),
            (&["text/csv;q=0"], false),
            (&["text/csv;q=much"], false),
            (&["text/csv;q=NaN"], false),
            (&["text/html"], false),
            (&[",;,=;q"], false),
        ] {
            let mut headers = HeaderMap::new();
            accept.iter().for_each(|value| {
                headers.append(ACCEPT, value.parse().expect("a value"));
            });
            assert_eq!(prefers_csv(&headers), is_csv, "{accept:?}");
        }
    }
}
