//! The ceiling: one TLS 1.3 connection between two processes, with the file work of a transfer and nothing else.
//!
//! Both ends are mutually authenticated by the agents' certificates and use blocking sockets, which is the fastest way
//! of this TLS library. The receiver digests in a thread of its own, while the next bytes come in and are written.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use sha2::{Digest, Sha256};

use super::certificates::CLUSTER;
use super::usage::Usage;

/// Bytes read and written at once.
const PIECE: usize = 256 << 10;
/// Pieces between the connection and the digest.
const DEPTH: usize = 8;

/// Sender and receiver.
pub(crate) struct Pair {
    sender: Child,
    receiver: Child,
    address: SocketAddr,
    received: PathBuf,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in [&mut self.sender, &mut self.receiver] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Pair {
    /// Starts both; the sender will send `file`.
    pub(crate) fn start(folder: &Path, file: &Path) -> Self {
        let received = folder.join("raw-received");
        let start = |role: &str, file: &Path| {
            Command::new(std::env::current_exe().expect("this program has a path"))
                .args([role.as_ref(), folder.as_os_str(), file.as_os_str()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this program can be started")
        };
        let mut sender = start("raw-send", file);
        let mut said = BufReader::new(sender.stdout.take().expect("it is piped"));
        let mut receiver = start("raw-receive", &received);
        let talk = (
            receiver.stdin.take().expect("it is piped"),
            BufReader::new(receiver.stdout.take().expect("it is piped")),
        );
        Self {
            address: line(&mut said)
                .parse()
                .expect("the sender says its address"),
            sender,
            receiver,
            received,
            talk: Mutex::new(talk),
        }
    }

    /// Where the sender listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the file arrives.
    pub(crate) fn received(&self) -> PathBuf {
        self.received.clone()
    }

    /// One transfer, dialled at `address`.
    pub(crate) fn transfer(&self, address: SocketAddr) {
        let mut talk = self.talk.lock().expect("no transfer has failed");
        writeln!(talk.0, "{address}").expect("the receiver lives");
        assert_eq!(line(&mut talk.1), "done");
    }

    pub(crate) fn sender_usage(&self) -> Usage {
        Usage::of(self.sender.id())
    }

    pub(crate) fn receiver_usage(&self) -> Usage {
        Usage::of(self.receiver.id())
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("the process lives");
    line.trim_end().to_owned()
}

struct Material {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn material(folder: &Path, name: &str) -> Material {
    let certificate = |file: String| {
        CertificateDer::from_pem_file(folder.join(file)).expect("certificates were written")
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate("ca.pem".to_owned()))
        .expect("it is an authority");
    Material {
        roots: Arc::new(roots),
        chain: vec![certificate(format!("{name}.pem"))],
        key: PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))
            .expect("keys were written"),
    }
}

/// The sending process: says its address, then sends the file to each who connects. Until killed.
pub(crate) fn send(folder: &Path, file: &Path) {
    let Material { roots, chain, key } = material(folder, "db1");
    let verifier = WebPkiClientVerifier::builder(roots)
        .build()
        .expect("there is an authority");
    let config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("the key fits");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let mut buffer = vec![0; PIECE];
    for socket in listener.incoming() {
        let socket = socket.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
        connection.set_buffer_limit(Some(2 * PIECE));
        let mut stream = StreamOwned::new(connection, socket);
        let mut file = File::open(file).expect("the segment is there");
        loop {
            match file.read(&mut buffer).expect("the segment can be read") {
                0 => break,
                count => stream
                    .write_all(&buffer[..count])
                    .expect("the receiver takes it"),
            }
        }
        stream.conn.send_close_notify();
        stream.flush().expect("the receiver takes it");
        // Whoever closes first with bytes unread resets the connection; the receiver sends nothing but its own end.
        let _ = stream.read(&mut buffer);
    }
}

/// The receiving process: for each address on its input it fetches the file there and says `done`. Until end of input.
pub(crate) fn receive(folder: &Path, file: &Path) {
    let Material { roots, chain, key } = material(folder, "db2");
    let config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("the key fits");
    let config = Arc::new(config);
    let name = ServerName::try_from(format!("db1.{CLUSTER}.agent.mha")).expect("a DNS name");
    for address in std::io::stdin().lock().lines() {
        let address = address.expect("a line");
        let socket = TcpStream::connect(address).expect("the sender listens");
        socket.set_nodelay(true).expect("a socket");
        let connection =
            ClientConnection::new(Arc::clone(&config), name.clone()).expect("a session");
        write_file(StreamOwned::new(connection, socket), file);
        println!("done");
    }
}

fn write_file(mut stream: StreamOwned<ClientConnection, TcpStream>, path: &Path) {
    let part = path.with_extension("part");
    let mut file = File::create(&part).expect("the folder is writable");
    let (to_digest, pieces) = mpsc::sync_channel::<Vec<u8>>(DEPTH);
    let (give_back, used) = mpsc::channel::<Vec<u8>>();
    let digest = std::thread::spawn(move || {
        let mut digest = Sha256::new();
        for piece in pieces {
            digest.update(&piece);
            let _ = give_back.send(piece);
        }
        digest.finalize()
    });
    loop {
        let mut piece = used.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            match stream.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic_with(&error),
            }
        }
        piece.truncate(filled);
        if filled == 0 {
            break;
        }
        file.write_all(&piece).expect("there is space");
        to_digest.send(piece).expect("the digest thread lives");
    }
    drop(to_digest);
    let digest = digest.join().expect("the digest thread ends");
    file.sync_all().expect("the file can be synced");
    fs::rename(&part, path).expect("it is one folder");
    File::open(path.parent().expect("it is in a folder"))
        .and_then(|folder| folder.sync_all())
        .expect("the folder can be synced");
    // Used, so that it is made.
    assert_ne!(digest.as_slice(), [0; 32]);
}

#[allow(
    clippy::panic,
    reason = "a ceiling that cannot be measured ends the bench"
)]
fn panic_with(error: &std::io::Error) -> ! {
    panic!("the stream broke: {error}")
}
