//! HTTPS by native-tls (OpenSSL) or rustls.
//!
//!     tls-peer LIBRARY client PORT FOLDER PATH...   asks for each path on one connection; prints the statuses
//!     tls-peer LIBRARY server PORT FOLDER           answers each request by 200; prints its line

use std::fs::read;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall\n";

fn find(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|one| one == what)
}

/// Read until this has come; false if the other side leaves before.
fn read_until(stream: &mut dyn Stream, what: &[u8], got: &mut Vec<u8>) -> bool {
    let mut some = [0; 4096];
    got.clear();
    while !find(got, what) {
        match stream.read(&mut some) {
            Ok(count) if count > 0 => got.extend_from_slice(&some[..count]),
            _ => return false,
        }
    }
    true
}

fn ask(stream: &mut dyn Stream, paths: &[String]) {
    let mut got = Vec::new();
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.flush().unwrap();
        assert!(read_until(stream, b"small\n", &mut got));
        println!("{}", String::from_utf8_lossy(&got[9..12]));
    }
}

fn answer(stream: &mut dyn Stream) {
    let mut got = Vec::new();
    while read_until(stream, b"\r\n\r\n", &mut got) {
        stream.write_all(ANSWER).unwrap();
        stream.flush().unwrap();
        let text = String::from_utf8_lossy(&got);
        println!("\"{}\" 200", text.lines().next().unwrap());
    }
}

fn native_client(socket: TcpStream, folder: &str) -> Box<dyn Stream> {
    let authority = native_tls::Certificate::from_pem(&read(format!("{folder}/ca.pem")).unwrap()).unwrap();
    let connector = native_tls::TlsConnector::builder().add_root_certificate(authority).build().unwrap();
    Box::new(connector.connect("localhost", socket).unwrap())
}

fn rustls_client(socket: TcpStream, folder: &str) -> Box<dyn Stream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{folder}/ca.pem")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(rustls::StreamOwned::new(connection, socket))
}

fn native_server(folder: &str) -> Box<dyn Fn(TcpStream) -> Option<Box<dyn Stream>>> {
    let (chain, key) = (read(format!("{folder}/server.pem")).unwrap(), read(format!("{folder}/server.p8")).unwrap());
    let acceptor = native_tls::TlsAcceptor::new(native_tls::Identity::from_pkcs8(&chain, &key).unwrap()).unwrap();
    Box::new(move |socket| Some(Box::new(acceptor.accept(socket).ok()?)))
}

fn rustls_server(folder: &str) -> Box<dyn Fn(TcpStream) -> Option<Box<dyn Stream>>> {
    let path = format!("{folder}/server.pem");
    let chain = CertificateDer::pem_file_iter(&path).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(format!("{folder}/server.p8")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    Box::new(move |socket| {
        let connection = rustls::ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(rustls::StreamOwned::new(connection, socket)))
    })
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (library, role, port, folder) = (&words[1], &words[2], words[3].parse().unwrap(), &words[4]);
    if role == "client" {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let make = if library == "rustls" { rustls_client } else { native_client };
        return ask(&mut *make(socket, folder), &words[5..]);
    }
    let accept = if library == "rustls" { rustls_server(folder) } else { native_server(folder) };
    for socket in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming() {
        if let Some(mut stream) = accept(socket.unwrap()) {
            answer(&mut *stream);
        }
    }
}
