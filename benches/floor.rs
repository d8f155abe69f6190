//! What there is to be compared with, in the same run: servers that do next to nothing with the requests that `tollgate bench` sends.
//!
//! `cargo bench --bench floor -- hyper 127.0.0.1:8099` reads each body to its end and answers 200, on the runtime that Tollgate has.
//! `cargo bench --bench floor -- producer 127.0.0.1:9092 2000000` sends so many records of an event each by librdkafka alone (`acks=all`,
//! idempotent, lz4, polled by the thread that sends) and prints its CPU-seconds a million. `benches/goals.py` runs both.

mod workload;

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
use workload::Workload;

const PARTITIONS: i32 = 16;
/// Events of a body, whose bytes are the records.
const EVENTS_A_BODY: u64 = 1_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (what, address) = (arguments.next(), arguments.next());
    match (what.as_deref(), address) {
        (Some("hyper"), Some(address)) => serve(&address),
        (Some("producer"), Some(address)) => {
            produce(&address, arguments.next().map_or(1_000_000, |count| count.parse().expect("a number")))
        }
        // `cargo test` and `cargo bench` ask for nothing.
        _ => {}
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
    let mut workload = Workload::new(1_000);
    // Made before the clock starts, and few, so that all that is paid for is the producer.
    let events: Vec<Vec<u8>> = (0..100)
        .flat_map(|_| {
            let body: Vec<serde_json::Value> = serde_json::from_slice(&workload.body(EVENTS_A_BODY)).expect("JSON");
            body.into_iter().map(|event| event.to_string().into_bytes())
        })
        .collect();
    let before = cpu();
    for (number, event) in (0..count).zip(events.iter().cycle()) {
        let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&topic).payload(event.as_slice()).partition(number as i32 % PARTITIONS);
        while let Err((error, refused)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            producer.poll(Duration::from_millis(1));
            record = refused;
        }
        if number % EVENTS_A_BODY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all confirmed");
    println!("{:.3}", (cpu() - before).as_secs_f64() * 1e6 / count as f64);
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
