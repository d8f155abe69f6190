//! Inputs made from others: bits flipped, parts cut out, repeated, spliced, put in from a list of what parsers stumble over.

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b" ",
    b"\n",
    b"\0",
    b"null",
    b"true",
    b"false",
    b"{}",
    b"[]",
    b"\"\"",
    b"[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\\"",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"NaN",
    b"-Infinity",
    b"0",
    b"-0",
    b"-1",
    b"01",
    b"1.",
    b"1e400",
    b"-1E-400",
    b"1e99999999999999999999",
    b"0.0000000000005",
    b"99999999999999999999.999999999999",
    b"100000000000000000000",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"253402300800",
    b"253402300799999",
    b"\"uniqueId\":",
    b"\"customerId\":",
    b"\"meterApiName\":",
    b"\"meterValue\":",
    b"\"meterTimeInMillis\":",
    b"\"dimensions\":",
    b"\"values\":",
    b"\"timeRange\":",
    b"\"endTimeInSeconds\":",
    b"\"HOUR\"",
    b"\"MONTH\"",
    b"&",
    b"=",
    b"?",
    b"/",
    b"//",
    b"%2F",
    b"%00",
    b"%",
    b"..",
    b"../",
    b"TGB1",
    b"TGSEG001",
    b"TGIDX001",
    b"TGRUN002",
    b"TGBASE01",
    b"\x1f\x8b\x08\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x78\x9c",
    super::SEPARATOR,
];

const NUMBERS: &[u64] =
    &[0, 1, 2, 7, 8, 16, 25, 26, 63, 64, 127, 128, 255, 256, 1_023, 1_024, 1_025, 65_535, 65_536, 1 << 20, 1 << 27, (1 << 27) + 1];

/// Changes `input` a few times; `other` is what may be spliced in.
pub(super) fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8], bytes_max: usize) {
    let changes = 1 + few(random, 5);
    for _ in 0..changes {
        change(random, input, other);
        input.truncate(bytes_max);
    }
}

fn change(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    match random.below(13) {
        0 | 1 => with_byte(random, input, |random, byte| *byte ^= 1 << random.below(8)),
        2 => with_byte(random, input, |random, byte| *byte = random.next() as u8),
        3 => with_byte(random, input, |random, byte| *byte = byte.wrapping_add([1, 255, 16, 240][random.below(4)])),
        4 => number(random, input),
        5 | 6 => {
            let at = random.below(input.len() + 1);
            let token = TOKENS[random.below(TOKENS.len())];
            input.splice(at..at, token.iter().copied());
        }
        7 => {
            let range = range(random, input.len());
            let token = TOKENS[random.below(TOKENS.len())];
            input.splice(range, token.iter().copied());
        }
        8 => drop(input.drain(range(random, input.len()))),
        9 => {
            let range = range(random, input.len());
            let times = 1 + few(random, 9);
            let repeated = input[range.clone()].repeat(times.min((64 << 10) / range.len().max(1)));
            input.splice(range.end..range.end, repeated);
        }
        10 => input.truncate(random.below(input.len() + 1)),
        11 => {
            let (to, from) = (range(random, input.len()), range(random, other.len()));
            input.splice(to, other[from].iter().copied());
        }
        _ => digits(random, input),
    }
}

fn with_byte(random: &mut Random, input: &mut [u8], change: impl FnOnce(&mut Random, &mut u8)) {
    if !input.is_empty() {
        let at = random.below(input.len());
        change(random, &mut input[at]);
    }
}

/// A number below 2^(bits − 1), more often small than large.
fn few(random: &mut Random, bits: usize) -> usize {
    let end = 1 << random.below(bits);
    random.below(end)
}

/// Some bytes, more often few than many.
fn range(random: &mut Random, len: usize) -> std::ops::Range<usize> {
    let start = random.below(len + 1);
    let longest = (len - start).min(few(random, 14));
    start..start + random.below(longest + 1)
}

/// Writes a binary number over what is there.
fn number(random: &mut Random, input: &mut [u8]) {
    let width = [1, 2, 4, 8][random.below(4)];
    if input.len() < width {
        return;
    }
    let chosen = NUMBERS[random.below(NUMBERS.len())];
    let number = match random.below(4) {
        0 => chosen.wrapping_neg(),
        1 => u64::MAX >> (1 + random.below(63)),
        2 => input.len() as u64,
        _ => chosen,
    };
    let at = random.below(input.len() - width + 1);
    let bytes = if random.below(4) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
    let bytes = if bytes == number.to_be_bytes() { &bytes[8 - width..] } else { &bytes[..width] };
    input[at..at + width].copy_from_slice(bytes);
}

/// Replaces a number in a text.
fn digits(random: &mut Random, input: &mut Vec<u8>) {
    let runs: Vec<_> = input.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).map(<[u8]>::len).collect();
    let mut starts = Vec::new();
    let mut at = 0;
    for len in runs {
        if input[at].is_ascii_digit() {
            starts.push(at..at + len);
        }
        at += len;
    }
    if starts.is_empty() {
        return;
    }
    let run = starts.swap_remove(random.below(starts.len()));
    let text = match random.below(4) {
        0 => (1_u128 << random.below(128)).to_string(),
        1 => (random.next() >> random.below(64)).to_string(),
        2 => "9".repeat(1 + random.below(40)),
        _ => NUMBERS[random.below(NUMBERS.len())].to_string(),
    };
    input.splice(run, text.into_bytes());
}
