use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::*;

/// A server that counts what it executed: `GET /b/N` gives N bytes, `GET /b/chunked` a body in chunks, a listing how often it was asked for,
/// `PUT` the length of what came.
struct Server {
    address: SocketAddr,
    done_count: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let done_count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&done_count);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || answer_all(BufReader::new(stream), &counter));
            }
        });
        Self { address, done_count }
    }

    fn done_count(&self) -> u64 {
        self.done_count.load(Ordering::SeqCst)
    }
}

fn answer_all(mut stream: BufReader<TcpStream>, counter: &AtomicU64) -> Option<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let field = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; field.map_or(0, |len| len.parse().expect("a length"))];
        stream.read_exact(&mut body).ok()?;
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let target = head.split(' ').nth(1)?;
        let answer = match target.rsplit('/').next()? {
            "chunked" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                    .to_owned()
            }
            _ if target.contains("list-type") => sized(&number.to_string()),
            _ if head.starts_with("PUT") => sized(&body.len().to_string()),
            len => sized(&"x".repeat(len.parse().expect("a length"))),
        };
        stream.get_ref().write_all(answer.as_bytes()).ok()?;
    }
}

fn sized(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Asks once, on a connection of its own: all that came, and whether the connection was reset.
fn ask(proxy: &Proxy, method: &str, target: &str, body: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(proxy.address()).expect("a connection");
    let len = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: example\r\ncontent-length: {len}\r\n\r\n");
    // The other side may have reset it by now.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    drop(stream.shutdown(Shutdown::Write));
    let mut came = Vec::new();
    let is_reset = stream.read_to_end(&mut came).is_err();
    (String::from_utf8(came).expect("text"), is_reset)
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn what_goes_well_passes_unchanged_on_one_connection() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    let stream = TcpStream::connect(proxy.address()).expect("a connection");
    let mut reader = BufReader::new(&stream);
    for _ in 0..3 {
        (&stream).write_all(b"GET /b/5 HTTP/1.1\r\nhost: h\r\n\r\n").expect("asked");
        let mut answer = vec![0; sized("xxxxx").len()];
        reader.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, sized("xxxxx").as_bytes());
    }
    (&stream)
        .write_all(b"PUT /b/a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .expect("asked");
    let mut interim = [0; 25];
    reader.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    (&stream).write_all(b"abc").expect("sent");
    let mut answer = vec![0; sized("3").len()];
    reader.read_exact(&mut answer).expect("an answer");
    assert!(answer.ends_with(b"\r\n\r\n3"));
    let (chunked, _) = ask(&proxy, "GET", "/b/chunked", b"");
    assert!(chunked.ends_with("\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "{chunked}");
    let totals = proxy.totals();
    let get = totals[&RequestKind::Get];
    assert_eq!((get.request_count, get.sent_bytes, get.received_bytes), (4, 0, 15 + 20));
    let put = totals[&RequestKind::Put];
    assert_eq!((put.request_count, put.sent_bytes, put.received_bytes), (1, 3, 1));
    assert_eq!(proxy.exchanges().len(), 5);
    assert_eq!(server.done_count(), 5);
}

/// What one `PUT` of ten bytes meets, and how many requests the server did.
#[track_caller]
fn check_put(fault: NetworkFault, expected: impl Fn(&str, bool) -> bool, expected_done: u64) {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    proxy.set_fault(1, fault);
    assert!(ask(&proxy, "PUT", "/b/a", b"0123456789").0.ends_with("10"));
    let (answer, is_reset) = ask(&proxy, "PUT", "/b/a", b"0123456789");
    assert!(expected(&answer, is_reset), "{fault:?}: {answer:?}, reset: {is_reset}");
    assert_eq!((proxy.request_count(), proxy.fault_count()), (2, 1), "{fault:?}");
    assert!(ask(&proxy, "PUT", "/b/a", b"0123456789").0.ends_with("10"), "{fault:?}");
    assert_eq!(server.done_count(), expected_done, "{fault:?}");
}

#[test]
fn each_fault_does_what_it_says() {
    use NetworkFault as Fault;
    check_put(Fault::SlowDown { retry_after_s: None }, |answer, _| answer.starts_with("HTTP/1.1 503 "), 2);
    let asked_to_wait =
        |answer: &str, _| answer.contains("retry-after: 7\r\n") && answer.contains("<Code>SlowDown<");
    check_put(Fault::SlowDown { retry_after_s: Some(7) }, asked_to_wait, 2);
    let expired =
        |answer: &str, _| answer.starts_with("HTTP/1.1 403 ") && answer.contains("<Code>ExpiredToken<");
    check_put(Fault::ExpiredToken { status: 403 }, expired, 2);
    check_put(Fault::ResetRequest, |answer, is_reset| answer.is_empty() && is_reset, 2);
    check_put(Fault::LoseReply, |answer, is_reset| answer.is_empty() && is_reset, 3);
    check_put(Fault::ResetAnswer, |answer, is_reset| answer.ends_with("\r\n\r\n1") || is_reset, 3);
    check_put(Fault::TruncateAnswer, |answer, is_reset| answer.ends_with("\r\n\r\n1") && !is_reset, 3);
    let begun = Instant::now();
    let time = Duration::from_millis(100);
    check_put(Fault::StallRequest(time), |answer, _| answer.ends_with("10"), 3);
    check_put(Fault::StallAnswer(time), |answer, _| answer.ends_with("10"), 3);
    assert!(begun.elapsed() >= 2 * time);
}

#[test]
fn answers_without_a_length_are_cut_too() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    proxy.set_plan(|_| Some(NetworkFault::TruncateAnswer));
    assert_eq!(body_of(&ask(&proxy, "GET", "/b/chunked", b"").0), "3\r\na");
    assert_eq!(body_of(&ask(&proxy, "GET", "/b/10", b"").0), "xxxxx");
    let (cut, _) = ask(&proxy, "GET", "/b/0", b"");
    assert!(!cut.is_empty() && !cut.contains("\r\n\r\n"), "{cut:?}");
    proxy.set_fair();
    assert_eq!(body_of(&ask(&proxy, "GET", "/b/10", b"").0), "xxxxxxxxxx");
}

#[test]
fn a_stale_listing_is_the_first_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    let list = |prefix: &str| {
        body_of(&ask(&proxy, "GET", &format!("/b?list-type=2&prefix={prefix}"), b"").0).to_owned()
    };
    assert_eq!((list("a"), list("a")), ("1".to_owned(), "2".to_owned()));
    proxy.set_plan(|_| Some(NetworkFault::StaleList));
    assert_eq!(list("a"), "1");
    assert!(list("b").contains("<KeyCount>0</KeyCount>"));
    assert!(ask(&proxy, "PUT", "/b/a", b"abc").0.ends_with('3'), "other requests are not touched");
    assert_eq!(proxy.fault_count(), 2);
    proxy.set_fair();
    assert_eq!(list("a"), "4");
}

#[test]
fn requests_wait_side_by_side() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    proxy.set_link(Link { round_trip: Duration::from_secs(1), ..Link::default() });
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(body_of(&ask(&proxy, "GET", "/b/3", b"").0), "xxx"));
        }
    });
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}: one after the other it were 20 s");
}

#[test]
fn all_connections_share_the_rate() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    proxy.set_link(Link { upload_rate: Some(1_000_000), download_rate: Some(500_000), ..Link::default() });
    let body = vec![b'0'; 100_000];
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(ask(&proxy, "PUT", "/b/a", &body).0.ends_with("100000")));
        }
    });
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(body_of(&ask(&proxy, "GET", "/b/100000", b"").0).len(), 100_000);
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}

#[test]
fn it_ends_with_its_connections() {
    let server = Server::start();
    let proxy = Proxy::start(server.address).expect("a proxy");
    let mut stream = TcpStream::connect(proxy.address()).expect("a connection");
    stream.write_all(b"GET /b/1 HTTP/1.1\r\n\r\n").expect("asked");
    stream.read_exact(&mut vec![0; sized("x").len()]).expect("an answer");
    let address = proxy.address();
    drop(proxy);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    // A child that another test is starting has the port for a moment, until it has become its program.
    let begun = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it takes connections for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
}
