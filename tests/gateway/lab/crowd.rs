//! Many clients at once, each with a connection it keeps, in the plain or inside TLS, through rules or a proxy.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::address;
use super::client::{connect, tls, tls_config};

/// How clients reach `example.test`.
#[derive(Clone)]
pub(crate) struct Way {
    proxy: Option<(&'static str, u16)>,
    config: Arc<ClientConfig>,
    patience: Duration,
}

/// A connection that is kept.
pub(crate) struct Kept {
    wire: Wire,
    target: &'static str,
}

enum Wire {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Way {
    /// Through the gateway's rules, trusting the authority in this file.
    pub(crate) fn redirected(ca: &Path) -> Way {
        Way { proxy: None, config: tls_config(ca), patience: PATIENCE }
    }

    /// Through an explicit proxy.
    pub(crate) fn by_proxy(host: &'static str, port: u16, ca: &Path) -> Way {
        Way { proxy: Some((host, port)), config: tls_config(ca), patience: PATIENCE }
    }

    /// A connection, its handshake done.
    pub(crate) fn open(&self, secure: bool) -> io::Result<Kept> {
        let port = if secure { 443 } else { 80 };
        let (host, at) = match self.proxy {
            Some((host, at)) => (host.to_owned(), at),
            None => (address("example.test", 4), port),
        };
        let mut socket = connect(&host, at, self.patience)?;
        if self.proxy.is_some() && secure {
            socket.write_all(b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n")?;
            let head = head_of(&mut socket)?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(io::Error::other(format!("CONNECT: {head}")));
            }
        }
        let wire = match secure {
            true => Wire::Secure(Box::new(tls(&self.config, "example.test", socket)?)),
            false => Wire::Plain(socket),
        };
        let target = if self.proxy.is_some() && !secure { "http://example.test" } else { "" };
        Ok(Kept { wire, target })
    }
}

impl Kept {
    /// One request for a file of known length; says whether another one may follow.
    pub(crate) fn get(&mut self, file: &str, length: usize) -> io::Result<bool> {
        let request = format!("GET {}/{file} HTTP/1.1\r\nHost: example.test\r\n\r\n", self.target);
        self.wire.write_all(request.as_bytes())?;
        let head = head_of(&mut self.wire)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(head));
        }
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.map(|line| line[name.len()..].trim().to_ascii_lowercase())
        };
        if field("content-length:").and_then(|length| length.parse().ok()) != Some(length) {
            return Err(io::Error::other(head));
        }
        let read = io::copy(&mut (&mut self.wire).take(length as u64), &mut io::sink())?;
        if read != length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(!field("connection:").is_some_and(|options| options.contains("close")))
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(bytes),
            Wire::Secure(stream) => stream.read(bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Secure(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Secure(stream) => stream.flush(),
        }
    }
}

fn head_of(wire: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        let read = match wire.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            let came = String::from_utf8_lossy(&head).into_owned();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the end, after {came:?}")));
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// What a crowd has done.
#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) open: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    pub(crate) asked_to_come_back: AtomicUsize,
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) stop: AtomicBool,
}

impl Deeds {
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Counts an answer or keeps a failure; says whether the connection may be used again.
    pub(crate) fn note(&self, what: &str, result: io::Result<bool>) -> bool {
        match result {
            Ok(more) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.asked_to_come_back.fetch_add(usize::from(!more), Ordering::Relaxed);
                more
            }
            Err(error) => {
                self.failures.lock().expect("no panic elsewhere").push(format!("{what}: {error}"));
                false
            }
        }
    }
}

/// `size` connections, half of them TLS, that are used in turn until `deeds.stop`, and beside them new ones, one after
/// the other. To be called inside a namespace.
pub(crate) fn crowd(size: usize, way: &Way, deeds: &Deeds) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| member(size / THREADS, way, deeds));
        }
    });
}

fn member(size: usize, way: &Way, deeds: &Deeds) {
    let mut kept: Vec<Option<Kept>> = (0..size).map(|_| None).collect();
    let mut turn = 0;
    while !deeds.stop.load(Ordering::Relaxed) {
        for (number, place) in kept.iter_mut().enumerate() {
            let connection = match place {
                Some(connection) => connection,
                None => match way.open(number % 2 == 0) {
                    Ok(connection) => {
                        deeds.open.fetch_add(1, Ordering::Relaxed);
                        place.insert(connection)
                    }
                    Err(error) => {
                        deeds.note("opening one to keep", Err(error));
                        continue;
                    }
                },
            };
            if !deeds.note("a kept connection", connection.get("1k", 1024)) {
                *place = None;
                deeds.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        turn += 1;
        let fresh = way.open(turn % 2 == 0).and_then(|mut connection| connection.get("1k", 1024));
        deeds.note("a new connection", fresh);
    }
    deeds.open.fetch_sub(kept.iter().flatten().count(), Ordering::Relaxed);
}

const THREADS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(30);
