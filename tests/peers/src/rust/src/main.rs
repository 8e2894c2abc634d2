//! rust-server PORT: hyper on tokio, one log line for each answered request.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const USERS: &str = "[{\"id\": 1, \"name\": \"Ada\"}, {\"id\": 2, \"name\": \"Grace\"}]\n";
const CHUNKS: [&str; 3] = ["one\n", "two\n", "three\n"];
const PAUSE: Duration = Duration::from_millis(10);

type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

async fn answer(method: &Method, path: &str, query: &str, body: &Bytes) -> (u16, Bytes) {
    match path {
        "/echo" => (200, body.clone()),
        _ if method == Method::DELETE => (200, "deleted\n".into()),
        "/api/users" => (200, USERS.into()),
        "/boom" => (500, "boom\n".into()),
        "/big" => (200, vec![b'x'; 1024 * 1024].into()),
        "/empty" => (204, Bytes::new()),
        "/slow" => {
            let milliseconds = query.trim_start_matches("ms=").parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            (200, "slow\n".into())
        }
        _ if path.starts_with("/id/") => (200, format!("{path}\n").into()),
        _ => (404, "missing\n".into()),
    }
}

fn chunked() -> Response<Body> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        for chunk in CHUNKS {
            if sender.send_data(chunk.into()).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Response::new(Either::Right(body))
}

fn whole(method: &Method, status: u16, content: Bytes) -> Response<Body> {
    let mut response = Response::builder().status(status);
    if status != 204 {
        response = response.header(CONTENT_LENGTH, content.len());
    }
    let sent = if method == Method::HEAD {
        Bytes::new()
    } else {
        content
    };
    response
        .body(Either::Left(Full::new(sent)))
        .expect("a fixed response is valid")
}

async fn handle(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let line = format!("{} {} {:?}", head.method, head.uri, head.version);
    if head.uri.path() == "/chunked" {
        let sent: usize = CHUNKS.iter().map(|chunk| chunk.len()).sum();
        println!("\"{line}\" 200 {sent} {}", body.len());
        return Ok(chunked());
    }
    let query = head.uri.query().unwrap_or("");
    let (status, content) = answer(&head.method, head.uri.path(), query, &body).await;
    let sent = if head.method == Method::HEAD {
        0
    } else {
        content.len()
    };
    println!("\"{line}\" {status} {sent} {}", body.len());
    Ok(whole(&head.method, status, content))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: rust-server PORT");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(handle))
                .await;
        });
    }
}
