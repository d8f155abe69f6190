//! What `tollgate bench` is asked for, and the bounds that hold whatever is asked.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::ensure;
use clap::builder::RangedU64ValueParser;

use super::events::MILLION;

/// Events of one run at most.
pub(super) const EVENTS_MAX: u64 = 1_000_000_000;
/// Length of one run, and of a series of them, at most, in seconds: enough for a billion ids.
pub(super) const DURATION_S_MAX: u64 = 4 * 3_600;
/// The server's own limit (`design.md`, Limits).
const EVENTS_PER_REQUEST_MAX: u64 = 10_000;
const CONNECTIONS_MAX: u64 = 1_024;
const OVERLOAD_CONNECTIONS_MAX: u64 = 9_000;
/// Events in the buffers of all connections together: some 200 MB.
const EVENTS_BUFFERED_MAX: u64 = 1_000_000;
pub(super) const RATE_MAX: u64 = 10_000_000;
const CUSTOMERS_MAX: u64 = 10_000_000;
const METERS_MAX: u64 = 1_000;
const DIMENSION_SETS_MAX: u64 = 100_000;
const THREADS_MAX: u64 = 64;
/// How long an overload lasts by default.
const OVERLOAD_S: u64 = 20;
/// Runs of a sweep at most.
const SWEEP_RUNS_MAX: usize = 32;
/// How long each run of a sweep lasts by default.
const SWEEP_RUN_S: u64 = 10;

/// Sends usage events to a gateway on this machine and reports throughput, latency and CPU cost.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Where the gateway is: http only, a path prefix is kept; events go to {url}/ingest
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,

    /// API key, sent as X-API-KEY
    #[arg(long, env = "TOLLGATE_KEY", hide_env_values = true)]
    pub(super) key: Option<ApiKey>,

    /// Size of the requests: s = 1 event each over 64 connections, b = 1,000 events each over 8 connections
    #[arg(long, value_enum, default_value = "b", ignore_case = true)]
    pub(super) shape: Shape,

    /// Events in each request (up to 10,000) instead of the shape's; 1 is sent as an object, more as an array
    #[arg(long, value_name = "N", value_parser = up_to(EVENTS_PER_REQUEST_MAX))]
    pub(super) events_per_request: Option<u64>,

    /// Connections (up to 1,024) instead of the shape's, each with one request at a time
    #[arg(long, value_name = "N", value_parser = up_to(CONNECTIONS_MAX))]
    pub(super) connections: Option<u64>,

    /// End after this many events [default: 1000000, in shape s 100000; with --duration only the cap]; never more
    /// than 1,000,000,000
    #[arg(long, value_name = "N", value_parser = up_to(EVENTS_MAX))]
    pub(super) events: Option<u64>,

    /// End after this time; with --events, whichever comes first; never more than 14,400 s
    #[arg(long, value_name = "SECONDS", value_parser = up_to(DURATION_S_MAX))]
    pub(super) duration: Option<u64>,

    /// Events a second at which requests are due, whether or not the server keeps up; latency then counts from
    /// when a request was due. 0 = closed loop: each connection sends when it has its answer (up to 10,000,000)
    #[arg(long, value_name = "EVENTS/S", default_value_t = 0, value_parser = up_to_or_none(RATE_MAX))]
    pub(super) rate: u64,

    /// Different customers (up to 10,000,000)
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = up_to(CUSTOMERS_MAX))]
    pub(super) customers: u64,

    /// Different meters (up to 1,000)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = up_to(METERS_MAX))]
    pub(super) meters: u64,

    /// Different sets of the dimensions region and tier (up to 100,000)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = up_to(DIMENSION_SETS_MAX))]
    pub(super) dimension_sets: u64,

    /// Events that repeat one of an earlier request, id and content, in percent; half of them a recent one
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub(super) duplicates: Percent,

    /// Events whose time lies up to 7 days in the past, in percent; the others lie up to a minute in the past
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub(super) late: Percent,

    /// Compress bodies with gzip; this costs the generator more CPU than all else
    #[arg(long)]
    pub(super) gzip: bool,

    /// Process of the server: its CPU time (until it is idle after the last ack) and memory are reported (Linux)
    #[arg(long)]
    pub(super) pid: Option<u32>,

    /// Append the uniqueId of every acked event to this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,

    /// Report one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,

    /// Threads that send (up to 64), each with its share of the connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(THREADS_MAX))]
    pub(super) threads: u64,

    /// Measure the capacity in a closed loop, for a quarter of --duration before and after, and offer this many times as much
    /// in an open one: requests are due whatever became of others, clients time out, come back after Retry-After, and give
    /// up after 4 attempts
    #[arg(long, value_name = "FACTOR", conflicts_with_all = ["rate", "events"], value_parser = factor)]
    pub(super) overload: Option<f64>,

    /// With --overload: connections that the clients share, at most
    #[arg(long, value_name = "N", requires = "overload", default_value_t = 1_000, value_parser = up_to(OVERLOAD_CONNECTIONS_MAX))]
    pub(super) clients: u64,

    /// With --overload: how long a client waits for a connection, and for an answer, in seconds
    #[arg(long, value_name = "SECONDS", requires = "overload", default_value_t = 15, value_parser = up_to(60))]
    pub(super) timeout: u64,

    /// A run at each of these rates in turn, in events/s, and a table with a line for each: ascending, up to 32, k and M for
    /// thousands and millions; `max` at the end is a closed loop. --duration [default: 10] and --events bound each run
    #[arg(long, value_name = "RATE,…", group = "series", conflicts_with_all = ["rate", "overload"])]
    pub(super) sweep: Option<Rates>,

    /// Make this many ids known to a server that knows none, in a closed loop, and say what an event costs and how much memory the
    /// server has at 1, 2, 5, 10, 20, 50 … of them (from a hundredth, at most a million, on). --duration bounds the whole
    #[arg(
        long,
        value_name = "IDS",
        group = "series",
        requires = "pid",
        conflicts_with_all = ["rate", "overload", "events", "duplicates"],
        value_parser = ids
    )]
    pub(super) grow: Option<u64>,

    /// With --sweep or --grow: draw the figures into this file, as SVG. What it held is replaced
    #[arg(long, value_name = "FILE", requires = "series")]
    pub(super) plot: Option<PathBuf>,

    /// What stands above the drawing
    #[arg(long, value_name = "TEXT", requires = "plot")]
    pub(super) title: Option<String>,

    /// Permit a server that is not on this machine. Ask whoever runs it first
    #[arg(long)]
    pub(super) allow_remote: bool,
}

/// How many times the capacity is offered.
fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.1..=20.0).contains(&factor) { Ok(factor) } else { Err("must be between 0.1 and 20".into()) }
}

/// A number of new ids.
fn ids(text: &str) -> Result<u64, String> {
    count(text, EVENTS_MAX)
}

/// A whole number from 1 to `max`, perhaps with k or M behind it.
fn count(text: &str, max: u64) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let number = digits.parse::<f64>().map_err(|_| format!("{text:?} is not a number, like 2000, 2k or 1.5M"))? * unit;
    if (1.0..=max as f64).contains(&number) { Ok(number.round() as u64) } else { Err(format!("{text:?} is not between 1 and {max}")) }
}

fn up_to(max: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=max)
}

fn up_to_or_none(max: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(0..=max)
}

/// The rates of a sweep in events/s, one at least, ascending. `None` is a closed loop, and comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rates(Vec<Option<NonZeroU64>>);

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = |text: &str| match text {
            "max" => Ok(None),
            _ => count(text, RATE_MAX).map(NonZeroU64::new),
        };
        let rates = text.split(',').map(rate).collect::<Result<Vec<_>, _>>()?;
        if rates.len() > SWEEP_RUNS_MAX {
            return Err(format!("has {} rates, the limit is {SWEEP_RUNS_MAX}", rates.len()));
        }
        let order = |rate: &Option<NonZeroU64>| rate.map_or(u64::MAX, NonZeroU64::get);
        if !rates.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err("must ascend, with max as the last one if at all".into());
        }
        Ok(Self(rates))
    }
}

/// The two standard sizes of requests.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One event a request, 64 connections.
    S,
    /// 1,000 events a request, 8 connections.
    B,
}

impl Shape {
    fn events_per_request(self) -> u64 {
        match self {
            Self::S => 1,
            Self::B => 1_000,
        }
    }

    fn connections(self) -> u64 {
        match self {
            Self::S => 64,
            Self::B => 8,
        }
    }

    fn events(self) -> u64 {
        match self {
            Self::S => 100_000,
            Self::B => 1_000_000,
        }
    }
}

/// A secret: shown as dots.
#[derive(Clone)]
pub(super) struct ApiKey(String);

impl ApiKey {
    /// The key itself, for the header.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A share, kept in millionths: 0 to 100 % with four decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent {
    pub(super) millionths: u64,
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err("must be between 0 and 100".into());
        }
        Ok(Self { millionths: (percent / 100.0 * MILLION as f64).round() as u64 })
    }
}

/// How big a run is, with defaults and caps applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) events_per_request: u64,
    pub(super) connections: u64,
    pub(super) threads: u64,
    pub(super) events_max: u64,
    pub(super) duration_max: Duration,
    pub(super) rate: Option<NonZeroU64>,
}

impl Size {
    /// Applies the defaults of the shape.
    ///
    /// # Errors
    /// Connections of that number would need too much memory for requests of that size.
    pub(super) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let shape = args.shape;
        let connections = args.connections.unwrap_or(shape.connections());
        let events_per_request = args.events_per_request.unwrap_or(shape.events_per_request());
        let buffered = connections * events_per_request;
        ensure!(
            buffered <= EVENTS_BUFFERED_MAX,
            "{connections} connections × {events_per_request} events a request is {buffered} events at a time, \
             the limit is {EVENTS_BUFFERED_MAX}"
        );
        // Who gives a time alone wants all of it.
        let events_default = if args.duration.is_some() { EVENTS_MAX } else { shape.events() };
        Ok(Self {
            events_per_request,
            connections,
            threads: args.threads.min(connections),
            events_max: args.events.unwrap_or(events_default),
            duration_max: Duration::from_secs(args.duration.unwrap_or(DURATION_S_MAX)),
            rate: NonZeroU64::new(args.rate),
        })
    }
}

/// An overload, with defaults and caps applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OverloadSize {
    pub(super) factor: f64,
    pub(super) clients: u64,
    pub(super) timeout: Duration,
    /// For measuring the capacity.
    pub(super) measuring: Duration,
    /// For the overload.
    pub(super) offering: Duration,
}

impl OverloadSize {
    /// `None` if no overload is asked for.
    ///
    /// # Errors
    /// So many connections would need too much memory for requests of that size.
    pub(super) fn new(args: &BenchArgs, size: &Size) -> anyhow::Result<Option<Self>> {
        let Some(factor) = args.overload else { return Ok(None) };
        let buffered = args.clients * size.events_per_request;
        ensure!(
            buffered <= EVENTS_BUFFERED_MAX,
            "{} clients × {} events a request is {buffered} events at a time, the limit is {EVENTS_BUFFERED_MAX}",
            args.clients,
            size.events_per_request
        );
        let offering = Duration::from_secs(args.duration.unwrap_or(OVERLOAD_S));
        Ok(Some(Self { factor, clients: args.clients, timeout: Duration::from_secs(args.timeout), measuring: offering / 4, offering }))
    }
}

/// Several runs behind each other, with defaults and caps applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Series {
    /// These runs.
    Sweep(Vec<Size>),
    /// Closed loops until so many ids are known, all within the time of this size.
    Growth { ids: u64, size: Size },
}

impl Series {
    /// `None` if none is asked for.
    ///
    /// # Errors
    /// All runs of a sweep together would take too long.
    pub(super) fn new(args: &BenchArgs, size: &Size) -> anyhow::Result<Option<Self>> {
        if let Some(ids) = args.grow {
            return Ok(Some(Self::Growth { ids, size: *size }));
        }
        let Some(Rates(rates)) = &args.sweep else { return Ok(None) };
        let seconds = args.duration.unwrap_or(SWEEP_RUN_S);
        let all = seconds * rates.len() as u64;
        ensure!(
            all <= DURATION_S_MAX,
            "--sweep with {} rates and --duration {seconds} is {all} s, the limit is {DURATION_S_MAX} s",
            rates.len()
        );
        let events_max = args.events.unwrap_or(EVENTS_MAX);
        let run = |rate: &Option<NonZeroU64>| Size { rate: *rate, events_max, duration_max: Duration::from_secs(seconds), ..*size };
        Ok(Some(Self::Sweep(rates.iter().map(run).collect())))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(args: &str) -> Result<BenchArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once("bench").chain(args.split_whitespace())).map(|cli| cli.bench)
    }

    fn size(args: &str) -> Size {
        Size::new(&parse(args).expect("accepted")).expect("within bounds")
    }

    #[test]
    fn the_shapes_have_their_documented_sizes() {
        let b = size("");
        assert_eq!((b.events_per_request, b.connections, b.threads, b.events_max), (1_000, 8, 1, 1_000_000));
        assert_eq!((b.duration_max, b.rate), (Duration::from_secs(DURATION_S_MAX), None));
        let s = size("--shape S");
        assert_eq!((s.events_per_request, s.connections, s.events_max), (1, 64, 100_000));
        let own = size("--shape s --events-per-request 10 --connections 2 --threads 4 --events 5 --rate 7");
        assert_eq!((own.events_per_request, own.connections, own.threads, own.events_max), (10, 2, 2, 5));
        assert_eq!(own.rate, NonZeroU64::new(7));
    }

    #[test]
    fn a_run_is_bounded_by_events_and_by_time_in_any_case() {
        let timed = size("--duration 5");
        assert_eq!((timed.events_max, timed.duration_max), (EVENTS_MAX, Duration::from_secs(5)));
        let both = size("--duration 5 --events 10");
        assert_eq!((both.events_max, both.duration_max), (10, Duration::from_secs(5)));
    }

    #[test]
    fn numbers_beyond_their_caps_are_refused() {
        for (option, max) in [
            ("--events", EVENTS_MAX),
            ("--duration", DURATION_S_MAX),
            ("--events-per-request", EVENTS_PER_REQUEST_MAX),
            ("--connections", CONNECTIONS_MAX),
            ("--customers", CUSTOMERS_MAX),
            ("--meters", METERS_MAX),
            ("--dimension-sets", DIMENSION_SETS_MAX),
            ("--threads", THREADS_MAX),
        ] {
            assert!(parse(&format!("{option} {max}")).is_ok(), "{option}");
            assert!(parse(&format!("{option} {}", max + 1)).is_err(), "{option}");
            assert!(parse(&format!("{option} 0")).is_err(), "{option}");
        }
        assert!(parse("--rate 0").is_ok());
        assert!(parse(&format!("--rate {}", RATE_MAX + 1)).is_err());
    }

    #[test]
    fn many_connections_with_large_requests_are_refused() {
        let of = |args: &str| Size::new(&parse(args).expect("accepted")).map(|size| size.connections);
        assert_eq!(of("--connections 100 --events-per-request 10000").ok(), Some(100));
        assert!(of("--connections 101 --events-per-request 10000").is_err());
    }

    #[test]
    fn an_overload_is_bounded_like_everything_else() {
        let of = |args: &str| {
            let args = parse(args).expect("accepted");
            OverloadSize::new(&args, &Size::new(&args).expect("within bounds"))
        };
        assert_eq!(of("").ok(), Some(None));
        let three = of("--overload 3 --duration 8").expect("within bounds").expect("asked for");
        assert_eq!((three.factor, three.clients, three.measuring, three.offering.as_secs()), (3.0, 1_000, Duration::from_secs(2), 8));
        assert!(of("--overload 3 --clients 1001").is_err(), "of 1,000 events each");
        assert!(of("--overload 3 --clients 9000 --shape s").is_ok());
        for refused in
            ["--overload 0", "--overload 21", "--overload NaN", "--overload 3 --rate 5", "--clients 9", "--overload 3 --timeout 0"]
        {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }

    fn series(args: &str) -> anyhow::Result<Option<Series>> {
        let args = parse(args)?;
        Series::new(&args, &Size::new(&args)?)
    }

    #[test]
    fn a_sweep_has_a_run_for_each_rate_and_ends_with_the_closed_loop() {
        let Some(Series::Sweep(runs)) = series("--sweep 500,2k,1.5M,max --shape s").expect("within bounds") else {
            panic!("a sweep was asked for")
        };
        let rates: Vec<_> = runs.iter().map(|run| run.rate.map(NonZeroU64::get)).collect();
        assert_eq!(rates, [Some(500), Some(2_000), Some(1_500_000), None]);
        assert!(runs.iter().all(|run| (run.events_max, run.duration_max, run.connections) == (EVENTS_MAX, Duration::from_secs(10), 64)));
        let Some(Series::Sweep(runs)) = series("--sweep max --events 7 --duration 3").expect("within bounds") else {
            panic!("a sweep was asked for")
        };
        assert_eq!((runs.len(), runs[0].events_max, runs[0].duration_max), (1, 7, Duration::from_secs(3)));
    }

    #[test]
    fn a_series_is_bounded_as_a_whole() {
        assert!(series("--sweep 1,2,3,4 --duration 3600").is_ok());
        let error = series("--sweep 1,2,3,4,5 --duration 3600").expect_err("five hours").to_string();
        assert!(error.contains("--sweep") && error.contains("--duration") && error.contains("14400"), "{error}");
        let rates = |end: u64| (1..=end).map(|rate| rate.to_string()).collect::<Vec<_>>().join(",");
        assert!(series(&format!("--sweep {}", rates(32))).is_ok());
        assert!(series(&format!("--sweep {}", rates(33))).is_err());
        assert!(parse("--grow 1000M --pid 1").is_ok());
        assert!(parse("--grow 1000000001 --pid 1").is_err());
    }

    #[test]
    fn rates_that_do_not_ascend_or_are_none_are_refused() {
        for refused in ["2k,1k", "1k,1k", "max,1k", "max,max", "1k,", "", "0", "0.4", "x", "1K", "-1", "NaN", "inf", "11M", "k"] {
            assert!(parse(&format!("--sweep={refused}")).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused_by_the_names_of_both() {
        for (refused, named) in [
            ("--sweep 1k --rate 5", ["--sweep", "--rate"]),
            ("--sweep 1k --overload 3", ["--sweep", "--overload"]),
            ("--sweep 1k --grow 5 --pid 1", ["--sweep", "--grow"]),
            ("--grow 5", ["--grow", "--pid"]),
            ("--grow 5 --pid 1 --rate 5", ["--grow", "--rate"]),
            ("--grow 5 --pid 1 --overload 3", ["--grow", "--overload"]),
            ("--grow 5 --pid 1 --events 5", ["--grow", "--events"]),
            ("--grow 5 --pid 1 --duplicates 5", ["--grow", "--duplicates"]),
            ("--plot a.svg", ["--plot", "--sweep"]),
            ("--plot a.svg", ["--plot", "--grow"]),
            ("--sweep 1k --title a", ["--title", "--plot"]),
        ] {
            let error = parse(refused).expect_err(refused).to_string();
            assert!(named.iter().all(|name| error.contains(name)), "{refused}: {error}");
        }
        assert!(parse("--sweep 1k,max --plot a.svg --title a --pid 1 --late 5 --duplicates 5").is_ok());
        assert!(parse("--grow 1.5k --pid 1 --plot a.svg").is_ok_and(|args| args.grow == Some(1_500)));
    }

    #[test]
    fn percentages_lie_between_0_and_100() {
        let duplicates = |text: &str| parse(&format!("--duplicates {text}")).map(|args| args.duplicates.millionths);
        assert_eq!(duplicates("0.1").ok(), Some(1_000));
        assert_eq!(duplicates("100").ok(), Some(MILLION));
        for refused in ["100.1", "NaN", "inf", "x"] {
            assert!(duplicates(refused).is_err(), "{refused}");
        }
        assert!(parse("--late=-1").is_err());
    }

    #[test]
    fn the_key_is_not_shown() {
        let args = parse("--key secret-1").expect("accepted");
        assert!(!format!("{args:?}").contains("secret-1"));
    }
}
