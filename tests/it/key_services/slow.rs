//! A service that does not come to an end with its answer is left, and the next slot is tried.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coffer_sandbox::KmsKind;

use super::{Desk, RECOVERY, UNREACHABLE};

/// How a [`Relay`] treats those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It hands on what is said.
    Good,
    /// It takes what comes and says nothing.
    Silent,
    /// It gives one byte in every second.
    Dripping,
}

/// Stands between a client and a server.
struct Relay {
    address: String,
    state: Arc<Mutex<(Manner, usize)>>,
}

impl Relay {
    fn to(url: &str) -> Self {
        let behind = url.split_once("://").unwrap().1.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new((Manner::Good, 0)));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let manner = {
                    let mut state = shared.lock().unwrap();
                    state.1 += 1;
                    state.0
                };
                let behind = behind.clone();
                std::thread::spawn(move || Self::serve(connection, manner, &behind));
            }
        });
        Self { address, state }
    }

    fn serve(mut client: TcpStream, manner: Manner, behind: &str) {
        match manner {
            Manner::Good => {
                let mut server = TcpStream::connect(behind).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                drop(std::io::copy(&mut server, &mut client));
                drop(client.shutdown(std::net::Shutdown::Both));
            }
            Manner::Silent => while client.read(&mut [0; 1024]).is_ok_and(|len| len > 0) {},
            Manner::Dripping => {
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".iter().chain(&[b' '; 60]) {
                    if client.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// From now on it does so; nobody has come yet.
    fn be(&self, manner: Manner) {
        *self.state.lock().unwrap() = (manner, 0);
    }

    fn count(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

#[test]
fn a_service_that_never_answers_does_not_keep_the_next_slot_from_opening() {
    let desk = Desk::new();
    let (kms, iam) = (Relay::to(desk.region.kms_endpoint()), Relay::to(desk.region.iam_endpoint()));
    let key = desk.instance(KmsKind::KeyProtect, None);
    let run = |line: &str| {
        let mut command = desk.command(line);
        command.env("COFFER_KEY_SERVICE_HOSTS", &kms.address);
        command.env("COFFER_IAM_ENDPOINT", format!("http://{}", iam.address));
        let since = Instant::now();
        let ran = Desk::ran(command.output().unwrap());
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
        ran
    };
    let (crn, endpoint) = (desk.crn(&key), format!("http://{}", kms.address));
    run(&format!("init --add-root-key {crn} --key-endpoint {endpoint} --add-passphrase-file ../recovery"))
        .expect(0);
    run("snapshots").expect(0);
    for manner in [Manner::Silent, Manner::Dripping] {
        for relay in [&kms, &iam] {
            relay.be(manner);
            run("--key-service-timeout 1 snapshots").expect(UNREACHABLE).says("no answer came in time");
            let asked = relay.count();
            assert!(asked > 0);
            // It is asked again before the passphrase, and that opens when the time is over.
            run(&format!("--key-service-timeout 1 {RECOVERY} snapshots")).expect(0);
            assert!(relay.count() > asked, "{manner:?}");
            relay.be(Manner::Good);
        }
    }
    run("snapshots").expect(0);
}
