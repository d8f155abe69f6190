//! A request's body: read within its limits and times, inflated within its limits (contract `README.md`, common rules).

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};
use tokio::time::{Instant, timeout_at};

use super::budget::{Budget, NoRoom, Room};
use crate::accounts::Share;
use crate::dialect::ApiError;

/// Limits of a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// On the wire, in bytes.
    pub wire_max: usize,
    /// Inflated, in bytes.
    pub inflated_max: usize,
    /// Longest pause between two pieces.
    pub idle: Duration,
    /// Time for all of it, the wait for room included.
    pub total: Duration,
}

/// Inflated bytes per byte on the wire.
const RATIO_MAX: usize = 100;
/// Below this, any ratio is fine: there is nothing to gain from a bomb so small.
const RATIO_FREE_BYTES: usize = 64 << 10;
/// Largest window of a zstd body: 8 MiB (RFC 9659). A frame of some bytes may ask for more, whatever it inflates to.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const ZSTD: &str = "zstd with a window of at most 8 MiB";
/// Room that is taken for a compressed body before it is read, as a multiple of its wire size.
const INFLATED_ESTIMATE: usize = 10;
/// Room that is taken first for a body whose length was not announced. Most are shorter: they give the rest back, and need not
/// ask for more when there is none.
const CHUNKED_ESTIMATE: usize = 1 << 20;

/// Why there is no body. Nothing of the request was stored.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer on the wire than the limit.
    #[error("the body has more than {limit} bytes, the limit")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Longer than the limit once inflated.
    #[error("the inflated body has more than {limit} bytes, the limit")]
    InflatedTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Inflates more than a hundredfold.
    #[error("the body inflates to more than {RATIO_MAX} times its size on the wire, the limit")]
    RatioTooLarge,
    /// A coding that is not known.
    #[error("the content encoding `{0}` is not supported; gzip, deflate, zstd and identity are")]
    UnknownCoding(String),
    /// The compressed bytes are damaged or cut off.
    #[error("the body is not valid {0}")]
    Damaged(&'static str),
    /// It did not come in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection broke, or the body is not framed as it has to be.
    #[error("the body is not well framed, or the connection ended inside it")]
    Cut,
    /// No room in memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// The answer to a body that there is not.
#[must_use]
pub fn refusal(error: &BodyError) -> ApiError {
    let (status, code) = match error {
        BodyError::TooLarge { .. } | BodyError::InflatedTooLarge { .. } | BodyError::RatioTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
        }
        BodyError::UnknownCoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
        BodyError::Damaged(_) | BodyError::Cut => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
        BodyError::NoRoom(_) => return ApiError::unavailable(error.to_string(), 1),
    };
    ApiError::new(status, code, error.to_string())
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = codings.next() else { return Ok(Self::Identity) };
        let text = value.to_str().unwrap_or("?").trim();
        match text.to_ascii_lowercase().as_str() {
            _ if codings.next().is_some() => Err(BodyError::UnknownCoding("several".into())),
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            _ => Err(BodyError::UnknownCoding(text.chars().take(64).collect())),
        }
    }
}

/// Reads and inflates a body, with the room that its bytes take from a key's share.
///
/// # Errors
/// [`BodyError`].
pub async fn read(
    headers: &HeaderMap,
    body: &mut Incoming,
    limits: BodyLimits,
    budget: &Budget,
    share: &Arc<Share>,
) -> Result<(Bytes, Room), BodyError> {
    let deadline = Instant::now() + limits.total;
    let coding = Coding::of(headers)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.wire_max) || body.size_hint().lower() > limits.wire_max as u64 {
        return Err(BodyError::TooLarge { limit: limits.wire_max });
    }
    // A request without a body has no length either.
    let wire = announced.unwrap_or(if body.is_end_stream() { 0 } else { CHUNKED_ESTIMATE.min(limits.wire_max) });
    let estimate = if coding == Coding::Identity { wire } else { (wire * (1 + INFLATED_ESTIMATE)).min(limits.inflated_max) };
    let mut room = budget.reserve(share, estimate).await?;
    let wire = read_wire(body, deadline, limits, &mut room).await?;
    let bytes = if coding == Coding::Identity { wire } else { inflate(coding, &wire, limits, &mut room)?.into() };
    room.shrink_to(bytes.len());
    Ok((bytes, room))
}

/// What a body that was read inflates to.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn inflated(headers: &HeaderMap, wire: &[u8], limits: BodyLimits, room: &mut Room) -> Result<Vec<u8>, BodyError> {
    inflate(Coding::of(headers)?, wire, limits, room)
}

/// The next piece; what is there already needs no timer.
async fn next_frame(
    body: &mut Incoming,
    deadline: Instant,
    idle: Duration,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, BodyError> {
    if let Poll::Ready(frame) = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await {
        return Ok(frame);
    }
    let until = deadline.min(Instant::now() + idle);
    timeout_at(until, body.frame()).await.map_err(|_| BodyError::TooSlow)
}

async fn read_wire(body: &mut Incoming, deadline: Instant, limits: BodyLimits, room: &mut Room) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    while !body.is_end_stream() {
        let frame = match next_frame(body, deadline, limits.idle).await? {
            None => break,
            Some(Err(_)) => return Err(BodyError::Cut),
            Some(Ok(frame)) => frame,
        };
        // Trailers are of no interest.
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + rest.len() + data.remaining();
        if length > limits.wire_max {
            return Err(BodyError::TooLarge { limit: limits.wire_max });
        }
        room.grow_to(length)?;
        // A small body comes in one piece, which is used as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                let announced = body.size_hint().exact().unwrap_or(0) as usize;
                rest.reserve((length + announced).min(limits.wire_max));
                rest.extend_from_slice(&first);
                first.clear();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

/// Bytes of a refused request that are read and thrown away, so that its sender gets to read the answer.
const DISCARDED_BYTES_MAX: usize = 32 << 20;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(3);

/// Brings a request to its end whose answer is known though its body was not read to the end: reads on for a while, as a
/// client that still sends when the connection is closed may never see the answer; where that is of no use, says
/// that the connection ends.
pub async fn finish<B>(head: &Parts, body: &mut Incoming, response: &mut Response<B>) {
    if body.is_end_stream() || head.version == Version::HTTP_2 {
        return;
    }
    // Whoever asked whether to send the body has the answer: no. Whoever was too slow has had the time.
    let is_asked_for = head.headers.contains_key(EXPECT);
    let came_too_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    if is_asked_for || came_too_late || !discard(body).await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whether the end was reached.
async fn discard(body: &mut Incoming) -> bool {
    let deadline = Instant::now() + DISCARD_TIME;
    let mut discarded = 0;
    while discarded <= DISCARDED_BYTES_MAX {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => discarded += frame.data_ref().map_or(0, Buf::remaining),
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
    false
}

fn inflate(coding: Coding, wire: &[u8], limits: BodyLimits, room: &mut Room) -> Result<Vec<u8>, BodyError> {
    match coding {
        Coding::Identity => Ok(wire.to_vec()),
        // A gzip body may consist of several members, one after the other.
        Coding::Gzip => inflate_from(flate2::read::MultiGzDecoder::new(wire), "gzip", wire.len(), limits, room),
        Coding::Deflate if is_zlib(wire) => {
            let mut decoder = flate2::bufread::ZlibDecoder::new(wire);
            let inflated = inflate_from(&mut decoder, "deflate", wire.len(), limits, room)?;
            at_its_end(decoder.get_ref(), inflated)
        }
        Coding::Deflate => {
            let mut decoder = flate2::bufread::DeflateDecoder::new(wire);
            let inflated = inflate_from(&mut decoder, "deflate", wire.len(), limits, room)?;
            at_its_end(decoder.get_ref(), inflated)
        }
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(wire).map_err(|_| BodyError::Damaged(ZSTD))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| BodyError::Damaged(ZSTD))?;
            inflate_from(decoder, ZSTD, wire.len(), limits, room)
        }
    }
}

/// The other codings refuse what stands behind their end, too.
fn at_its_end(left: &[u8], inflated: Vec<u8>) -> Result<Vec<u8>, BodyError> {
    if left.is_empty() { Ok(inflated) } else { Err(BodyError::Damaged("deflate")) }
}

/// `deflate` means the zlib format, but some clients send it bare.
fn is_zlib(wire: &[u8]) -> bool {
    matches!(wire, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

fn inflate_from(
    mut decoder: impl Read,
    name: &'static str,
    wire: usize,
    limits: BodyLimits,
    room: &mut Room,
) -> Result<Vec<u8>, BodyError> {
    let ratio_max = (wire * RATIO_MAX).max(RATIO_FREE_BYTES);
    let mut inflated = Vec::with_capacity((wire * 4).min(limits.inflated_max));
    loop {
        let before = inflated.len();
        let step = (before / 2).clamp(16 << 10, 1 << 20) as u64;
        let read = decoder.by_ref().take(step).read_to_end(&mut inflated).map_err(|_| BodyError::Damaged(name))?;
        if inflated.len() > limits.inflated_max {
            return Err(BodyError::InflatedTooLarge { limit: limits.inflated_max });
        }
        if inflated.len() > ratio_max {
            return Err(BodyError::RatioTooLarge);
        }
        room.grow_to(wire + inflated.len())?;
        if read == 0 {
            return Ok(inflated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RoomKind;
    use std::io::Write;

    const LIMITS: BodyLimits =
        BodyLimits { wire_max: 1 << 20, inflated_max: 4 << 20, idle: Duration::from_secs(1), total: Duration::from_secs(1) };

    async fn inflated(coding: Coding, wire: &[u8]) -> Result<Vec<u8>, BodyError> {
        let mut room = Budget::new(RoomKind::Ingest, 64 << 20, Duration::ZERO).reserve(&Arc::default(), 1).await?;
        inflate(coding, wire, LIMITS, &mut room)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("compresses");
        encoder.finish().expect("compresses")
    }

    #[tokio::test]
    async fn every_coding_is_inflated() {
        let text = b"[{\"meterApiName\":\"tokens\"}]".repeat(50);
        assert_eq!(inflated(Coding::Gzip, &gzip(&text)).await.expect("gzip"), text);
        let two = [gzip(&text[..40]), gzip(&text[40..])].concat();
        assert_eq!(inflated(Coding::Gzip, &two).await.expect("two members"), text);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&text).expect("compresses");
        assert_eq!(inflated(Coding::Deflate, &zlib.finish().expect("compresses")).await.expect("zlib"), text);
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(&text).expect("compresses");
        assert_eq!(inflated(Coding::Deflate, &bare.finish().expect("compresses")).await.expect("deflate"), text);
        assert_eq!(inflated(Coding::Zstd, &zstd::encode_all(&text[..], 1).expect("compresses")).await.expect("zstd"), text);
    }

    #[tokio::test]
    async fn a_cut_body_is_damaged_and_a_bomb_is_refused() {
        let wire = gzip(b"[{\"meterApiName\":\"tokens\"}]");
        assert!(matches!(inflated(Coding::Gzip, &wire[..wire.len() - 3]).await, Err(BodyError::Damaged("gzip"))));
        assert!(matches!(inflated(Coding::Gzip, b"not gzip").await, Err(BodyError::Damaged("gzip"))));
        assert!(matches!(inflated(Coding::Gzip, &gzip(&vec![b' '; 3 << 20])).await, Err(BodyError::RatioTooLarge)));
        let noise: Vec<u8> = (0_u32..5 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        assert!(matches!(
            inflated(Coding::Zstd, &zstd::encode_all(&noise[..], 1).expect("compresses")).await,
            Err(BodyError::InflatedTooLarge { .. })
        ));
    }
}
