//! The tables of the house: who may know whom, which package lives where, and the exceptions with their reasons.

/// A module of `src/` and what of ours it may import. Stairs go down only: a row names rows above it.
pub(crate) struct Floor {
    pub(crate) module: &'static str,
    pub(crate) may: &'static [&'static str],
}

const fn floor(module: &'static str, may: &'static [&'static str]) -> Floor {
    Floor { module, may }
}

/// From the cellar to the roof. `src/lib.rs` tells the same story with words.
#[rustfmt::skip]
pub(crate) const FLOORS: &[Floor] = &[
    // words: what everybody may say
    floor("addr", &[]),
    floor("buf", &[]),
    floor("clock", &[]),
    floor("coding", &[]),
    floor("flow", &["coding"]),
    floor("filter", &["coding", "flow"]),
    // options that are filters are compiled when they are read
    floor("config", &["filter"]),
    floor("store", &["flow", "filter"]),
    floor("view", &["flow", "coding"]),
    // the cellar
    floor("ring", &["addr", "buf"]),
    // tools, and the contract
    floor("stream", &["buf", "ring"]),
    floor("hooks", &["clock", "flow"]),
    floor("ca", &[]),
    // the address policy compares with the ranges the operator gave
    floor("connect", &["addr", "config", "ring", "stream"]),
    // talk and taste: neither knows the other, and neither knows the ring
    floor("proto", &["buf", "ca", "clock", "coding", "config", "connect", "flow", "hooks", "stream"]),
    floor("addons", &["clock", "coding", "config", "filter", "flow", "hooks", "store"]),
    // in-memory peers for dialogues, compiled for tests only
    floor("testing", &["addr", "buf", "ca", "clock", "config", "connect", "flow", "hooks", "proto", "stream"]),
    // the ways in
    floor("mode", &["addr", "config", "connect", "flow", "proto", "ring", "stream"]),
    // what a person looks at: flows in, text out; it knows no engine
    floor("ui", &["coding", "config", "filter", "flow", "store", "view"]),
    floor("telemetry", &["config"]),
    // firewall rules and the sign of life that keeps them; it runs before and after the engine, so it knows none of it
    floor("redirect", &[]),
    // the whole
    floor("engine", &["addons", "addr", "ca", "clock", "config", "connect", "filter", "flow", "hooks", "mode", "proto",
        "redirect", "ring", "store", "telemetry"]),
    // the commands
    floor("cli", &["config", "engine", "filter", "flow", "redirect", "store", "telemetry", "ui"]),
];

/// A package and the files or folders of `src/` that may name it.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) places: &'static [&'static str],
}

const fn package(name: &'static str, places: &'static [&'static str]) -> Package {
    Package { name, places }
}

/// One package, one place. A place that ends in `/` is a folder.
#[rustfmt::skip]
pub(crate) const PACKAGES: &[Package] = &[
    // rustls' provider hands its algorithms to the TLS configuration; chains are known by their digests; records
    // are opened and sealed with it
    package("aws-lc-rs", &["src/ca/", "src/flow/cert.rs", "src/proto/tls/config.rs", "src/proto/tls/records/",
        "src/proto/tls/verified.rs"]),
    package("brotli", &["src/coding/"]),
    package("bytes", &["src/buf/", "src/flow/", "src/proto/", "src/store/"]),
    package("chrono", &["src/telemetry/"]),
    package("clap", &["src/cli/"]),
    package("encoding_rs", &["src/flow/"]),
    package("flate2", &["src/coding/"]),
    package("httparse", &["src/proto/http/h1/codec/"]),
    package("io-uring", &["src/ring/"]),
    // the rules are a tool run by hand (and its sign of life), not the data path: they need no ring, but netlink,
    // accounts and interfaces' numbers
    package("nix", &["src/ring/", "src/redirect/apply.rs", "src/redirect/check.rs", "src/redirect/iptables.rs",
        "src/redirect/netlink.rs", "src/redirect/state.rs"]),
    package("p12-keystore", &["src/ca/"]),
    package("rcgen", &["src/ca/"]),
    package("regex", &["src/filter/"]),
    // keys and certificates in the types that rustls takes them in
    package("rustls", &["src/ca/", "src/proto/tls/codec.rs", "src/proto/tls/config.rs", "src/proto/tls/facts.rs",
        "src/proto/tls/layer.rs", "src/proto/tls/records/", "src/proto/tls/verified.rs",
        "src/proto/tls/verify.rs"]),
    package("rustls-native-certs", &["src/proto/tls/verify.rs"]),
    package("ruzstd", &["src/coding/"]),
    package("sd-notify", &["src/engine/"]),
    package("serde", &["src/engine/", "src/redirect/"]),
    package("serde_json", &["src/cli/ctl.rs", "src/engine/", "src/flow/message.rs", "src/redirect/"]),
    package("slab", &["src/clock.rs", "src/ring/"]),
    package("socket2", &["src/ring/"]),
    // every module's errors
    package("thiserror", &["src/"]),
    // tasks and channels; its sockets carry nothing but the control socket
    package("tokio", &["src/connect/resolve.rs", "src/engine/", "src/hooks/hold.rs", "src/proto/", "src/ring/"]),
    package("tokio-uring", &["src/ring/"]),
    package("toml", &["src/config/"]),
    package("tracing", &["src/engine/", "src/hooks/", "src/proto/", "src/ring/", "src/telemetry/"]),
    package("tracing-subscriber", &["src/telemetry/"]),
    package("uuid", &["src/engine/", "src/filter/", "src/flow/", "src/mode/", "src/proto/", "src/store/"]),
    package("x509-parser", &["src/ca/", "src/flow/cert.rs"]),
];

/// A file that may do what others may not, and why.
pub(crate) struct Exception {
    pub(crate) path: &'static str,
    pub(crate) why: &'static str,
}

const fn except(path: &'static str, why: &'static str) -> Exception {
    Exception { path, why }
}

/// Who may hold a `Mutex` or a `RwLock`.
pub(crate) const LOCKS: &[Exception] = &[
    except("src/ca/cache.rs", "workers share minted leaves: once per TLS connection, never per chunk"),
    except(
        "src/connect/policy.rs",
        "the set of our own upstream connections: twice per connection, never per chunk",
    ),
    except("src/connect/nested.rs", "connections between this machine and itself: twice per such connection"),
    except("src/engine/flows.rs", "the flow store, filled by the flows thread; no worker touches it"),
    except("src/engine/control.rs", "the flow store, read by the control thread; no worker touches it"),
    except(
        "src/proto/tls/config.rs",
        "sessions with servers, which all workers resume: once per worker and server",
    ),
    except(
        "src/proto/tls/verified.rs",
        "chains that were verified: at most twice per handshake with a server",
    ),
    except(
        "src/proto/tcp/layer.rs",
        "tokio's: the two directions of one session take turns at its flow's hooks",
    ),
];

/// Who may read the machine's clock.
pub(crate) const CLOCKS: &[Exception] = &[
    except("src/clock.rs", "the clock everybody else asks, so that a test can drive time"),
    except("src/telemetry/log.rs", "the local time in front of a line for people; nothing depends on it"),
];

/// Conversations whose dialogues are not written yet: short, and getting shorter.
pub(crate) const DIALOGUES_OWED: &[Exception] = &[];

/// Lines of a file that are not tests.
pub(crate) const LINES_MAX: usize = 600;
