//! ringtap: a TLS-intercepting transparent proxy for Linux gateways. This page is the map.
//!
//! Each processor gets one [worker](engine) with an io_uring of its own. A client's connection is accepted by
//! one worker, becomes a [`Session`](proto::Session) there, and never leaves it: nothing is shared per chunk,
//! and nothing is locked. What protocols are made of is *pure* (`codec.rs`: bytes in, values out); how they
//! are talked is told from top to bottom by one `async fn` per protocol (`layer.rs`).
//!
//! Names in code are links where the thing is public; otherwise `file::name` says where to look below `src/`.
//!
//! # The walk of one intercepted HTTPS request
//!
//! 1. Rules of the kernel's firewall bend the packet to us. `ringtap redirect` ([`cli::redirect`]) put them
//!    there, and the engine's sign of life ([`Heartbeat`](redirect::heartbeat::Heartbeat)) keeps them; without
//!    it traffic passes by.
//! 2. The kernel completes the connection on one worker's listener. `engine/worker.rs::accept` takes a permit
//!    (none left: counted, reset) and starts a task for it (`engine/worker.rs::session`).
//! 3. [`mode::enter`] is the way in: it asks [`ring::sockopt::original_dst`] where the client wanted to go,
//!    has [`Policy`](connect::Policy) refuse loops to ourselves, and makes the `Session`.
//! 4. [`proto::run`] is the conversation. It fires the hook [`ClientConnected`](hooks::Hook::ClientConnected)
//!    and loops: what is next? That layer talks until it is [`Closed`](proto::Outcome::Closed) or hands the
//!    session on as [`Next`](proto::Outcome::Next).
//! 5. `proto/next.rs::next_layer` peeks at the first bytes. A TLS record
//!    ([`looks_like_tls`](proto::tls::client_hello::looks_like_tls)) leads to [`proto::tls::intercept`].
//! 6. There the whole ClientHello is [read](proto::tls::client_hello::HelloReader) and shown to addons
//!    ([`TlsClienthello`](hooks::Hook::TlsClienthello)), who may say *ignore*: then it is
//!    [relayed](proto::tcp::relay) as it is, never touched.
//! 7. [`proto::server::open_server`] is the one way out: policy,
//!    [`ServerConnect`](hooks::Hook::ServerConnect), [`Connector::connect`](connect::Connector::connect), and
//!    with the client's name and protocols [`proto::tls::connect_server`].
//! 8. [`LeafIdentity::mirror`](ca::LeafIdentity::mirror) copies the names of the server's certificate, and
//!    [`LeafCache::leaf`](ca::LeafCache::leaf) mints one like it (once: workers share leaves).
//!    `proto/tls/layer.rs::meet_client` shows it to the client. From here on the client's
//!    [`Stream`](stream::Stream) *wears* what [`TlsCodec`](proto::tls::TlsCodec) became after its handshake (for TLS
//!    1.3 our own `proto/tls/records/mod.rs::Records`, else itself): who reads it reads plaintext.
//! 9. Back in the loop the protocol agreed on, or the first bytes, say HTTP/1: [`proto::http::h1::converse`].
//! 10. `proto/http/h1/requests.rs::await_head` has the [codec](proto::http::h1::codec) parse the head where it
//!     lies; `proto/http/h1/requests.rs::route` says to which server;
//!     [`Exchange::begin`](proto::http::exchange::Exchange::begin) makes the [`HttpFlow`](flow::HttpFlow), if
//!     anybody wants one.
//! 11. `proto/http/h1/requests.rs::prepare` runs [`Requestheaders`](hooks::Hook::Requestheaders), and
//!     [`Exchange::plan`](proto::http::exchange::Exchange::plan) decides about the body: *collect* it for an addon
//!     that may change it ([`Request`](hooks::Hook::Request) comes before it goes out), or *stream* it past a tape
//!     (`proto/http/tape.rs::BodyTape`) that keeps a copy, through an addon's function if there is one
//!     ([`BodyStream`](flow::BodyStream)). An addon may hold the flow, answer it, or kill it
//!     ([`Verdict`](proto::http::exchange::Verdict)).
//! 12. Head and body go out as [`Chunks`](buf::Chunks) in one [`write`](stream::Stream::write), are
//!     [sealed](stream::Transform::seal), and queued on the worker's [`Ring`](ring::Ring).
//! 13. `proto/http/h1/responses.rs::relay` brings the response back the same way:
//!     [`Responseheaders`](hooks::Hook::Responseheaders), the body, [`Response`](hooks::Hook::Response).
//! 14. [`Exchange::finish`](proto::http::exchange::Exchange::finish) hands the flow to the outbox
//!     (`engine/outbox.rs::WorkerOutbox`), bounded and never waited for. The flows thread
//!     (`engine/flows.rs::run`) records ([`RecorderFile`](store::RecorderFile)), keeps
//!     ([`FlowStore`](store::FlowStore)) and shows ([`Dumper`](ui::dump::Dumper)) it.
//! 15. Keep-alive goes on at 10. At the end [`proto::end`] says goodbye to both sides and fires
//!     [`ClientDisconnected`](hooks::Hook::ClientDisconnected), the buffers go home, and the permit returns.
//!
//! # The floors
//!
//! Stairs go down only. `tests/tidy.rs` holds the exact table, and fails when an import climbs.
//!
//! | floor | modules | for |
//! |---|---|---|
//! | faces | [`cli`], [`ui`] | commands; what a person looks at |
//! | the whole | [`engine`], [`telemetry`], [`redirect`] | workers and their control; logs and metrics; firewall rules |
//! | ways in | [`mode`] | from an accepted connection to a session |
//! | talk | [`proto`] | conversations; they know neither addons nor the ring |
//! | contract | [`hooks`] | between conversations and addons |
//! | tools | [`stream`], [`connect`], [`ca`] | bytes to and fro; the way out; leaves |
//! | cellar | [`ring`] | the kernel: the only `io_uring`, and the only `unsafe` |
//! | words | [`addr`], [`buf`], [`clock`], [`coding`], [`config`], [`filter`], [`flow`], [`store`] | what everybody may say |
//! | beside the stairs | [`testing`](self), with the feature of that name | dialogues for tests and benchmarks |
//!
//! # The lexicon
//!
//! | word | means |
//! |---|---|
//! | client, server | who reached us; whom we reach |
//! | session | one client connection, from accept to close |
//! | layer | one protocol's turn in a session ([`Layer`](flow::Layer)) |
//! | exchange | one HTTP request and its response |
//! | flow | the record that addons and people see ([`Flow`](flow::Flow)) |
//! | message | a unit of TCP, UDP or WebSocket |
//! | hook, addon | a named moment ([`Hook`](hooks::Hook)); code that listens at hooks ([`Addon`](hooks::Addon)) |
//! | mode | how clients reach us ([`ModeSpec`](config::ModeSpec)) |
//! | worker | a pinned thread with its rings |
//! | buffer, chunk | exclusive bytes ([`Buffer`](buf::Buffer)); shared bytes ([`Chunk`](buf::Chunk)) |
//! | mint, leaf | make a certificate that looks like the server's; that certificate |
//! | collect, stream | the two plans for a body: wait for all of it, or let it pass |
//! | passthrough | relayed untouched, as an addon wished |

pub mod addr;
pub mod buf;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod coding;
pub mod config;
pub mod connect;
pub mod engine;
pub mod filter;
pub mod flow;
pub mod hooks;
pub mod mode;
pub mod proto;
pub mod redirect;
pub mod ring;
pub mod store;
pub mod stream;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod ui;
