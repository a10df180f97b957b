//! A bucket in another region than the one asked: followed, unless the region was chosen for it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::desk::{BUCKET, Desk};

/// Says to each request that the bucket is in `eu-west-3`, which it is not either, and writes down which region it was signed for.
fn elsewhere() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let regions = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&regions);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let head =
                BufReader::new(&connection).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            for line in head {
                if line.to_ascii_lowercase().starts_with("authorization:") {
                    seen.lock().unwrap().push(line.split('/').nth(2).unwrap().to_owned());
                }
            }
            let body = "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
            let answer = format!(
                "HTTP/1.1 301 Moved Permanently\r\nConnection: close\r\nContent-Type: application/xml\r\n\
                 x-amz-bucket-region: eu-west-3\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            drop(connection.write_all(answer.as_bytes()));
        }
    });
    (endpoint, regions)
}

#[test]
fn a_region_that_was_not_chosen_for_the_bucket_is_left_for_the_one_that_is_named() {
    let desk = Desk::new(|_| {});
    let check = |line: &str, variables: &[(&str, &str)], expected: &[&str]| {
        let (endpoint, regions) = elsewhere();
        let mut command = desk.command(&format!("snapshots --endpoint {endpoint} {line}"));
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(32), "{said}");
        assert!(said.contains("give --region eu-west-3"), "{said}");
        let mut regions = regions.lock().unwrap().clone();
        regions.dedup();
        assert_eq!(regions, expected, "{line} {variables:?}");
    };
    check("", &[], &["us-east-1", "eu-west-3"]);
    check("", &[("AWS_REGION", "ap-south-1")], &["ap-south-1", "eu-west-3"]);
    check("--region us-east-1", &[], &["us-east-1"]);
    check("", &[("COFFER_REGION", "us-east-1")], &["us-east-1"]);
    let config = format!("[store.\"s3://{BUCKET}/v\"]\nregion = \"us-east-1\"\n");
    std::fs::write(desk.path("work/coffer.toml"), config).unwrap();
    check("--config coffer.toml", &[], &["us-east-1"]);
}
