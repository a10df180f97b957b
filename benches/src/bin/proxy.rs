//! A network of one's own choice between a program and a server on loopback: `coffer-proxy UPSTREAM [ROUND-TRIP-MS [UP [DOWN]]]`.
//!
//! UPSTREAM is HOST:PORT; UP and DOWN are caps in bytes a second, 0 for none. It says where it listens, then does what comes on
//! standard input, a line each, until that ends: `totals` prints requests and bytes by kind as a line of JSON, `reset` counts from
//! 0 again.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::io::BufRead;
use std::net::ToSocketAddrs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coffer_testkit::proxy::{Link, Proxy};
use serde_json::{Map, json};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((upstream, numbers)) = arguments.split_first().filter(|(_, numbers)| numbers.len() <= 3) else {
        bail!("usage: coffer-proxy UPSTREAM [ROUND-TRIP-MS [UP [DOWN]]]");
    };
    let upstream = upstream.to_socket_addrs()?.next().context("UPSTREAM is HOST:PORT")?;
    let number = |position: usize| {
        let text = numbers.get(position).map_or("0", String::as_str);
        text.parse::<u64>().with_context(|| format!("{text} is no number"))
    };
    let rate = |position| number(position).map(|rate| Some(rate).filter(|rate| *rate > 0));
    let proxy = Proxy::start(upstream)?;
    proxy.set_link(Link {
        round_trip: Duration::from_millis(number(0)?),
        upload_rate: rate(1)?,
        download_rate: rate(2)?,
    });
    println!("{}", proxy.endpoint());
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "totals" => println!("{}", totals(&proxy)),
            "reset" => proxy.set_fair(),
            other => bail!("{other} is neither totals nor reset"),
        }
    }
    Ok(())
}

fn totals(proxy: &Proxy) -> serde_json::Value {
    let totals = proxy.totals().into_iter().map(|(kind, total)| {
        let total = json!({
            "requests": total.request_count, "sent_bytes": total.sent_bytes, "received_bytes": total.received_bytes,
        });
        (kind.to_string(), total)
    });
    totals.collect::<Map<_, _>>().into()
}
