//! What there is to be compared with, in the same run: servers that do next to nothing with the requests that `tollgate bench` sends.
//!
//! `tollgate-floor hyper 127.0.0.1:8099` reads each body to its end and answers 200, on the runtime that Tollgate has.
//! `tollgate-floor producer 127.0.0.1:9092 2000000` sends so many records of an event each by librdkafka alone (`acks=all`,
//! idempotent, lz4, polled by the thread that sends) and prints its CPU-seconds a million. `benches/goals.py` runs both.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 16;
/// Different records, made before the clock starts, so that all that is paid for is the producer.
const RECORDS: u64 = 100_000;
/// Records between two looks at what was confirmed.
const POLLED_EVERY: u64 = 1_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (what, address) = (arguments.next(), arguments.next());
    match (what.as_deref(), address) {
        (Some("hyper"), Some(address)) => serve(&address),
        (Some("producer"), Some(address)) => {
            produce(&address, arguments.next().map_or(1_000_000, |count| count.parse().expect("a number")))
        }
        _ => {
            eprintln!("usage: tollgate-floor hyper ADDRESS | producer BROKERS [RECORDS]");
            std::process::exit(2);
        }
    }
}

fn serve(address: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.expect("an address");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("a socket");
            let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async { connection.await.ok() });
        }
    });
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    while let Some(Ok(frame)) = request.body_mut().frame().await {
        drop(frame);
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}

fn produce(brokers: &str, count: u64) {
    let topic = format!("floor-{}", std::process::id());
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    create(brokers, &topic);
    let events: Vec<Vec<u8>> = (0..RECORDS).map(record).collect();
    let before = cpu();
    for (number, event) in (0..count).zip(events.iter().cycle()) {
        let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&topic).payload(event.as_slice()).partition(number as i32 % PARTITIONS);
        while let Err((error, refused)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            producer.poll(Duration::from_millis(1));
            record = refused;
        }
        if number % POLLED_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all confirmed");
    println!("{:.3}", (cpu() - before).as_secs_f64() * 1e6 / count as f64);
}

/// An event as `tollgate bench` sends it, of 207 bytes.
fn record(number: u64) -> Vec<u8> {
    let (customer, tenths, time) = (number * 7_919 % 1_000, number % 10, 1_767_227_400_000 + number % 60_000);
    let event = format!(
        r#"{{"uniqueId":"01234567-89ab-4cde-8f01-{number:012x}","meterApiName":"api-calls-0","customerId":"customer-{customer:05}","meterValue":17.{tenths},"meterTimeInMillis":{time},"dimensions":{{"region":"eu-1","tier":"gold"}}}}"#
    );
    event.into_bytes()
}

fn create(brokers: &str, topic: &str) {
    use tollgate::log::kafka::wire::Form;
    use tollgate::log::kafka::{Settings, topics};
    let settings = Settings { brokers: brokers.into(), ..Settings::default() };
    let wanted = topics::Wanted {
        name: topic.into(),
        partitions: PARTITIONS as u32,
        replication: 1,
        retention_ms: Some(600_000),
        form: Form::Events,
    };
    topics::open(&settings, &wanted).expect("a topic");
}

/// User and system time of this process.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
