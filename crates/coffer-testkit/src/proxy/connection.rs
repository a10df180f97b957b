//! One connection of a client, and the one to the server behind it.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::link::Direction;
use super::message::{Body, Head};
use super::request::{Exchange, Request, RequestKind};
use super::{NetworkFault, Shared};

/// Bytes that are read at once.
const BUFFER_LEN: usize = 1 << 16;

/// Longest listing that is remembered.
const LISTING_LEN_MAX: usize = 4 << 20;

/// Of a request that is answered already, so many bytes are read, and for so long.
const REST_LEN_MAX: u64 = 128 << 20;
const REST_TIME_MAX: Duration = Duration::from_secs(5);

/// What comes after a request.
enum Next {
    /// The next one.
    Request,
    /// The end, in good order.
    Close,
    /// The end, by a reset.
    Reset,
}

pub(super) struct Connection<'a> {
    shared: &'a Shared,
    client: BufReader<TcpStream>,
    upstream: Option<BufReader<TcpStream>>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(shared: &'a Shared, client: TcpStream) -> Self {
        Self { shared, client: BufReader::with_capacity(BUFFER_LEN, client), upstream: None }
    }

    /// Answers requests until the connection ends. Returns the socket, which ends as was decided when it is dropped.
    pub(super) fn serve(mut self) -> TcpStream {
        // A small answer waits for no other.
        drop(self.client.get_ref().set_nodelay(true));
        loop {
            match self.request() {
                Ok(Next::Request) => {}
                // Either side may go away at any time; the other one learns it by the end of its connection.
                Ok(Next::Close) | Err(_) => break,
                Ok(Next::Reset) => {
                    // If that cannot be had, it is an end all the same.
                    let _ = set_socket_linger(self.client.get_ref(), Some(Duration::ZERO));
                    return self.client.into_inner();
                }
            }
        }
        drop(self.client.get_ref().shutdown(Shutdown::Write));
        self.client.into_inner()
    }

    fn request(&mut self) -> io::Result<Next> {
        let Some(head) = Head::read(&mut self.client)? else { return Ok(Next::Close) };
        let mut request = Request::of(&head);
        let (fault, plan_number) = self.shared.begin(&mut request);
        let mut exchange = Exchange { request, fault, status: None, sent_bytes: 0, received_bytes: 0 };
        let next = self.exchange(&head, &mut exchange);
        self.shared.end(exchange, plan_number);
        next
    }

    fn exchange(&mut self, head: &Head, exchange: &mut Exchange) -> io::Result<Next> {
        let body = head.request_body()?;
        self.shared.wire.cross();
        if head.has("expect", "100-continue") {
            self.client.get_ref().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match exchange.fault {
            Some(NetworkFault::SlowDown { retry_after_s }) => {
                let field = retry_after_s.map(|seconds| format!("retry-after: {seconds}\r\n"));
                let body = error_body("SlowDown", "Please reduce your request rate.");
                return self.answer(exchange, head, (503, "Slow Down"), &field.unwrap_or_default(), &body);
            }
            Some(NetworkFault::ExpiredToken { status }) => {
                let body = error_body("ExpiredToken", "The provided token has expired.");
                return self.answer(exchange, head, (status, "Refused"), "", &body);
            }
            Some(NetworkFault::StaleList) => {
                let body = self.shared.remembered(&exchange.request).unwrap_or_else(empty_listing);
                return self.answer(exchange, head, (200, "OK"), "", &body);
            }
            Some(NetworkFault::ResetRequest) => {
                // Without a body nothing is passed on.
                if let Some(middle) = body.middle() {
                    self.send(head, body, Some(middle), exchange)?;
                }
                return Ok(Next::Reset);
            }
            Some(NetworkFault::StallRequest(time)) => sleep(time),
            _ => {}
        }
        // A server that has refused by the head alone may take no more of the body: its answer counts all the same.
        let sent = self.send(head, body, None, exchange);
        let answer = match (sent, self.answer_head()) {
            (Ok(()), answer) => answer?,
            (Err(_), Ok(answer)) => {
                self.shared.wire.cross();
                let passed = self.pass_answer(&answer, exchange)?;
                self.upstream = None;
                // What the client still sends is read, so that it meets the answer and no reset.
                drop(self.client.get_ref().shutdown(Shutdown::Write));
                drop(self.client.get_ref().set_read_timeout(Some(REST_TIME_MAX)));
                drop(io::copy(&mut (&mut self.client).take(REST_LEN_MAX), &mut io::sink()));
                return Ok(if matches!(passed, Next::Reset) { passed } else { Next::Close });
            }
            (Err(error), Err(_)) => return Err(error),
        };
        self.shared.wire.cross();
        self.pass_answer(&answer, exchange)
    }

    /// Answers in place of the server, after the whole request has come.
    fn answer(
        &mut self,
        exchange: &mut Exchange,
        head: &Head,
        (status, reason): (u16, &str),
        fields: &str,
        body: &[u8],
    ) -> io::Result<Next> {
        let mut coming = head.request_body()?;
        let mut piece = Vec::new();
        loop {
            coming.next(&mut self.client, &mut piece)?;
            if piece.is_empty() {
                break;
            }
            exchange.sent_bytes += piece.len() as u64;
        }
        self.shared.wire.cross();
        let len = body.len();
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/xml\r\n{fields}content-length: {len}\r\n\r\n"
        );
        exchange.status = Some(status);
        let body = if exchange.request.method == "HEAD" { &[] } else { body };
        exchange.received_bytes = body.len() as u64;
        self.client.get_ref().write_all(&[head.as_bytes(), body].concat())?;
        Ok(Next::Request)
    }

    /// Sends a request to the server, or its beginning, after which no connection to the server is left.
    fn send(
        &mut self,
        head: &Head,
        mut body: Body,
        middle: Option<u64>,
        exchange: &mut Exchange,
    ) -> io::Result<()> {
        self.connect()?;
        let Some(upstream) = &self.upstream else { return Ok(()) };
        let mut to = upstream.get_ref();
        to.write_all(head.bytes())?;
        let mut piece = Vec::new();
        let mut left = middle.unwrap_or(u64::MAX);
        while left > 0 {
            if let Err(error) = body.next(&mut self.client, &mut piece) {
                // The client has gone: the server waits for bytes that never come, so there is no answer to wait for.
                self.upstream = None;
                return Err(error);
            }
            if piece.is_empty() {
                break;
            }
            exchange.sent_bytes += piece.len() as u64;
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            self.shared.wire.carry(Direction::Up, piece.len());
            to.write_all(&piece)?;
        }
        if middle.is_some() {
            self.upstream = None;
        }
        Ok(())
    }

    /// The head of the answer itself; interim ones were answered already.
    fn answer_head(&mut self) -> io::Result<Head> {
        let Some(upstream) = &mut self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        loop {
            let head = Head::read(upstream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if head.status().is_none_or(|status| status >= 200) {
                return Ok(head);
            }
        }
    }

    fn pass_answer(&mut self, head: &Head, exchange: &mut Exchange) -> io::Result<Next> {
        let Some(upstream) = &mut self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut body = head.answer_body(&exchange.request.method)?;
        let is_last = body == Body::ToEnd || head.has("connection", "close");
        let mut to = self.client.get_ref();
        let (at_middle, stall) = match exchange.fault {
            Some(NetworkFault::LoseReply) => {
                self.upstream = None;
                return Ok(Next::Reset);
            }
            Some(NetworkFault::ResetAnswer) => (Some(Next::Reset), Duration::ZERO),
            Some(NetworkFault::TruncateAnswer) => (Some(Next::Close), Duration::ZERO),
            Some(NetworkFault::StallAnswer(time)) => (None, time),
            _ => (None, Duration::ZERO),
        };
        let is_cut = at_middle.is_some() || !stall.is_zero();
        // Half of the body passes; of an answer without one, half of its head.
        let mut left = body.middle().filter(|_| is_cut);
        let (first, second) = match (is_cut, left) {
            (true, None) => head.bytes().split_at(head.bytes().len() / 2),
            _ => (head.bytes(), &[][..]),
        };
        to.write_all(first)?;
        if is_cut && left.is_none() {
            if let Some(next) = at_middle {
                self.upstream = None;
                return Ok(next);
            }
            sleep(stall);
            to.write_all(second)?;
        }
        exchange.status = head.status();
        let mut listing = (exchange.request.kind == RequestKind::List && exchange.status == Some(200))
            .then(Vec::new)
            .filter(|_| matches!(body, Body::Known(_)));
        let mut piece = Vec::new();
        loop {
            body.next(upstream, &mut piece)?;
            if piece.is_empty() {
                break;
            }
            if let Some(listing) = &mut listing
                && listing.len() <= LISTING_LEN_MAX
            {
                listing.extend_from_slice(&piece);
            }
            self.shared.wire.carry(Direction::Down, piece.len());
            let mut rest = &piece[..];
            if let Some(until) = left {
                let (before, after) =
                    rest.split_at(rest.len().min(usize::try_from(until).unwrap_or(usize::MAX)));
                to.write_all(before)?;
                exchange.received_bytes += before.len() as u64;
                left = Some(until - before.len() as u64);
                rest = after;
                if left == Some(0) {
                    if let Some(next) = at_middle {
                        self.upstream = None;
                        return Ok(next);
                    }
                    sleep(stall);
                    left = None;
                }
            }
            to.write_all(rest)?;
            exchange.received_bytes += rest.len() as u64;
        }
        if let Some(listing) = listing.filter(|listing| listing.len() <= LISTING_LEN_MAX) {
            self.shared.remember(&exchange.request, listing);
        }
        if is_last {
            self.upstream = None;
            return Ok(Next::Close);
        }
        Ok(Next::Request)
    }

    /// Makes sure of a connection to the server: one that it has closed meanwhile is replaced.
    fn connect(&mut self) -> io::Result<()> {
        let is_usable = self.upstream.as_ref().is_some_and(|upstream| {
            let stream = upstream.get_ref();
            let is_idle = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
            upstream.buffer().is_empty()
                && stream.set_nonblocking(true).is_ok()
                && stream.peek(&mut [0]).is_err_and(is_idle)
                && stream.set_nonblocking(false).is_ok()
        });
        if !is_usable {
            let stream = TcpStream::connect(self.shared.upstream)?;
            stream.set_nodelay(true)?;
            self.upstream = Some(BufReader::with_capacity(BUFFER_LEN, stream));
        }
        Ok(())
    }
}

fn error_body(code: &str, message: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    .into_bytes()
}

fn empty_listing() -> Vec<u8> {
    b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
      <KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        .to_vec()
}
