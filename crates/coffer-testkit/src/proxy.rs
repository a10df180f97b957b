//! A network that behaves badly, between an HTTP/1.1 client and one server, on loopback.
//!
//! A [`Proxy`] passes requests on as they are, the host name too, so that signatures stay valid. It counts them, tells what they
//! are in the terms of S3, lets each wait for a round trip, caps what a second may carry, and does to request `n` what a plan says:
//! see [`NetworkFault`]. Each connection has a thread of its own, so that one that waits holds up no other.
//!
//! It is for tests and measurements. It speaks no TLS, takes no requests before the last one is answered (pipelining), and trusts
//! both sides to send well-formed messages.

mod connection;
mod link;
mod message;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use connection::Connection;
pub use link::Link;
use link::Wire;
pub use request::{Exchange, Request, RequestKind, Total};

/// Exchanges that are kept one by one; totals go on beyond.
const EXCHANGE_COUNT_MAX: usize = 100_000;

/// Listings that are remembered to be replayed, by path and query.
const LISTING_COUNT_MAX: usize = 1000;

/// How long exchanges that are under way are waited for.
const END_TIME_MAX: Duration = Duration::from_secs(60);

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkFault {
    /// 503 `SlowDown`; the server is not asked.
    SlowDown {
        /// `Retry-After` of the answer.
        retry_after_s: Option<u64>,
    },
    /// `ExpiredToken` under this status, 401 or 403; the server is not asked.
    ExpiredToken {
        /// The status.
        status: u16,
    },
    /// Half of the body goes to the server, then both connections break. A request without body never gets there.
    ResetRequest,
    /// The server does its work, and half of its answer comes before the connection breaks.
    ResetAnswer,
    /// As [`Self::ResetAnswer`], but the connection ends in good order, earlier than the length that was announced.
    TruncateAnswer,
    /// The server does its work, and the connection breaks before anything of the answer comes.
    LoseReply,
    /// The server is asked only after this time, whether or not the client still waits.
    StallRequest(Duration),
    /// The server does its work; half of the answer comes, and the rest after this time.
    StallAnswer(Duration),
    /// A listing is answered as the same one was the first time, or as empty if there was none. Other requests are not touched.
    StaleList,
}

type Plan = Box<dyn Fn(&Request) -> Option<NetworkFault> + Send + Sync>;

/// What was asked for since the plan was set.
#[derive(Default)]
struct Record {
    /// How many plans there were before; an exchange belongs to the one that it began under.
    plan_number: u64,
    request_count: u64,
    fault_count: u64,
    under_way_count: u64,
    exchanges: Vec<Exchange>,
    totals: BTreeMap<RequestKind, Total>,
}

/// What connections share.
struct Shared {
    upstream: SocketAddr,
    is_stopped: AtomicBool,
    wire: Wire,
    plan: Mutex<Plan>,
    record: Mutex<Record>,
    /// Told whenever an exchange has ended.
    ended: Condvar,
    /// First answers to listings, each a whole body.
    listings: Mutex<HashMap<String, Vec<u8>>>,
    /// Handles of open connections, by which they are ended.
    open: Mutex<HashMap<u64, TcpStream>>,
}

/// A running proxy. When it is dropped, it takes no more connections and breaks those that are open.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `upstream`: no latency, no cap, no faults.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            is_stopped: AtomicBool::new(false),
            wire: Wire::default(),
            plan: Mutex::new(Box::new(|_| None)),
            record: Mutex::default(),
            ended: Condvar::new(),
            listings: Mutex::default(),
            open: Mutex::default(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as the URL of a service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets latency and caps, for requests that begin from now on.
    pub fn set_link(&self, link: Link) {
        self.shared.wire.set(link);
    }

    /// From now on, `plan` says what happens to each request. Requests are numbered from 0 again and what was recorded is dropped;
    /// what is remembered of listings stays.
    pub fn set_plan(&self, plan: impl Fn(&Request) -> Option<NetworkFault> + Send + Sync + 'static) {
        let mut current = lock(&self.shared.plan);
        *current = Box::new(plan);
        let mut record = lock(&self.shared.record);
        *record = Record { plan_number: record.plan_number + 1, ..Record::default() };
    }

    /// As [`Self::set_plan`]: request `index` meets `fault`, and no other does.
    pub fn set_fault(&self, index: u64, fault: NetworkFault) {
        self.set_plan(move |request| (request.index == index).then_some(fault));
    }

    /// As [`Self::set_plan`]: nothing goes wrong.
    pub fn set_fair(&self) {
        self.set_plan(|_| None);
    }

    /// Requests since the plan was set, those under way included.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        lock(&self.shared.record).request_count
    }

    /// Requests since the plan was set that met a fault.
    #[must_use]
    pub fn fault_count(&self) -> u64 {
        lock(&self.shared.record).fault_count
    }

    /// What was asked for and answered since the plan was set, in the order in which it ended; the first 100,000 of it. What is under way
    /// is waited for, a minute at most: a client may have its answer before the proxy has written down that it gave it.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.settled().exchanges.clone()
    }

    /// Requests and bytes since the plan was set, by kind. Waits as [`Self::exchanges`] does.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<RequestKind, Total> {
        self.shared.settled().totals.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Whoever waits for a connection gets this one.
        drop(TcpStream::connect(self.address));
        for (_, stream) in lock(&self.shared.open).drain() {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Shared {
    /// Numbers a request and tells what happens to it, and the number of the plan that says so.
    fn begin(&self, request: &mut Request) -> (Option<NetworkFault>, u64) {
        // Held over both, so that a new plan sees its own numbers only.
        let plan = lock(&self.plan);
        let mut record = lock(&self.record);
        request.index = record.request_count;
        record.request_count += 1;
        record.under_way_count += 1;
        let fault = plan(request).filter(|fault| fault.concerns(request.kind));
        record.fault_count += u64::from(fault.is_some());
        (fault, record.plan_number)
    }

    /// Writes down an exchange that began under the plan of this number.
    fn end(&self, exchange: Exchange, plan_number: u64) {
        let mut record = lock(&self.record);
        if record.plan_number != plan_number {
            return;
        }
        record.under_way_count -= 1;
        self.ended.notify_all();
        record.totals.entry(exchange.request.kind).or_default().add(&exchange);
        if record.exchanges.len() < EXCHANGE_COUNT_MAX {
            record.exchanges.push(exchange);
        }
    }

    /// What was recorded, once nothing is under way.
    fn settled(&self) -> MutexGuard<'_, Record> {
        let is_open = |record: &mut Record| record.under_way_count > 0;
        let waited = self.ended.wait_timeout_while(lock(&self.record), END_TIME_MAX, is_open);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Keeps the first answer to a listing.
    fn remember(&self, request: &Request, body: Vec<u8>) {
        let mut listings = lock(&self.listings);
        if listings.len() < LISTING_COUNT_MAX {
            listings.entry(request.target()).or_insert(body);
        }
    }

    fn remembered(&self, request: &Request) -> Option<Vec<u8>> {
        lock(&self.listings).get(&request.target()).cloned()
    }
}

impl NetworkFault {
    fn concerns(self, kind: RequestKind) -> bool {
        self != Self::StaleList || kind == RequestKind::List
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0_u64;
    while let Ok((client, _)) = listener.accept() {
        if shared.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(handle) = client.try_clone() else { continue };
        lock(&shared.open).insert(number, handle);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let connection = Connection::new(&shared, client);
            let client = connection.serve();
            // The last handle ends the connection, in the way that was set.
            lock(&shared.open).remove(&number);
            drop(client);
        });
        number += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
