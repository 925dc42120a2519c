//! What is meant: options as the engine uses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::mode::{ModeSpec, Target};
use super::typed::{Source, Typed};
use super::{Cidr, ConfigError};
use crate::filter::Filter;

/// Everything the engine needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ways in.
    pub modes: Vec<ModeSpec>,
    /// Start the listeners at all.
    pub server: bool,
    /// Default listen address; `None`: all.
    pub listen_host: Option<IpAddr>,
    /// Default listen port.
    pub listen_port: u16,
    /// Worker threads.
    pub workers: Workers,
    /// Where CA files lie.
    pub confdir: PathBuf,
    /// Where the control socket lies; `None`: nowhere.
    pub control_socket: Option<PathBuf>,
    /// Where metrics are served; `None`: nowhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Servers' certificates are not verified.
    pub ssl_insecure: bool,
    /// PEM file of trusted roots; `None`: the system's.
    pub trusted_ca: Option<PathBuf>,
    /// TLS 1.3 records are ours once the handshake is done, not rustls'.
    pub tls_inplace_records: bool,
    /// Bytes that the kernel may hold of one server's data, unread.
    pub socket_receive_max: Option<usize>,
    /// When servers are connected to.
    pub strategy: Strategy,
    /// When the kernel moves raw conversations' bytes by itself.
    pub tcp_splice: Splice,
    /// The names in servers' certificates are mirrored.
    pub upstream_cert: bool,
    /// Client ranges of explicit modes; `None`: loopback and on-link networks.
    pub allow_clients: Option<Vec<Cidr>>,
    /// Destinations opened to clients of explicit modes.
    pub allow_destinations: Vec<Cidr>,
    /// Our own addresses towards servers; empty: the kernel's choice.
    pub connect_addr: Vec<Cidr>,
    /// Refuse public clients that connect directly.
    pub block_global: bool,
    /// Refuse private clients that connect directly.
    pub block_private: bool,
    /// Reverse mode keeps the client's Host.
    pub keep_host_header: bool,
    /// Relay what is not recognised.
    pub rawtcp: bool,
    /// Bytes above which bodies are neither collected nor kept.
    pub stream_large_bodies: Option<u64>,
    /// Bytes of a body that a recorded flow keeps.
    pub flow_body_max: usize,
    /// Bytes of bodies that all flows under way keep.
    pub flow_bodies_max: usize,
    /// Bytes above which bodies are refused.
    pub body_size_limit: Option<u64>,
    /// Bytes of a body collected for an addon.
    pub body_collect_max: usize,
    /// Bytes of all bodies being collected.
    pub collect_budget: usize,
    /// A body that cannot be collected is refused, not streamed past.
    pub collect_overflow_refuse: bool,
    /// Streamed bodies are kept in flows whatever their size.
    pub store_streamed_bodies: bool,
    /// Bytes of a head.
    pub http_head_size_max: usize,
    /// Malformed heads are refused, and never written anew.
    pub validate_inbound_headers: bool,
    /// Lines of a head.
    pub http_headers_max: usize,
    /// Bytes of one line of a head.
    pub http_line_max: usize,
    /// Client connections at once; 0: as many as descriptors allow.
    pub connections_max: usize,
    /// Bytes of finished flows kept in memory.
    pub flow_store_max: usize,
    /// Bytes of finished flows waiting for the recorder.
    pub recorder_queue_max: usize,
    /// Sessions wait for a recorder that cannot keep up.
    pub record_loss_slow: bool,
    /// Bytes of forged certificates kept.
    pub leaf_cache_max: usize,
    /// Waits.
    pub timeouts: Timeouts,
    /// Recording, as written (`+` appends).
    pub save_stream_file: Option<String>,
    /// Which flows are recorded; `None`: all.
    pub save_stream_filter: Option<Filter>,
    /// File to read flows from.
    pub rfile: Option<String>,
    /// Which flows are read; `None`: all.
    pub readfile_filter: Option<Filter>,
    /// Which flows are printed; `None`: all.
    pub dumper_filter: Option<Filter>,
    /// What is printed of a flow.
    pub flow_detail: u8,
    /// URLs with the Host header's name.
    pub showhost: bool,
    /// What is logged.
    pub verbosity: LogLevel,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for every processor we may use.
    All,
    /// This many.
    Count(usize),
}

/// When a server is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Before the client's handshake or a tunnel's answer, or when the client is silent.
    Eager,
    /// When a request needs it.
    Lazy,
}

/// When the kernel moves a conversation's bytes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    /// Where both peers are on this machine.
    Auto,
    /// Wherever the peers are.
    On,
    /// Never.
    Off,
}

impl Splice {
    fn of(typed: &Typed) -> Self {
        match typed.text("tcp_splice").as_deref() {
            Some("on") => Self::On,
            Some("off") => Self::Off,
            _ => Self::Auto,
        }
    }
}

/// What is logged to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what broke.
    Error,
    /// And what may break.
    Warn,
    /// And what an operator wants to know.
    Info,
    /// And what helps to find a fault.
    Debug,
}

/// Waits, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To reach a server.
    pub connect_ms: u64,
    /// For a TLS handshake.
    pub tls_ms: u64,
    /// For a request's head, once begun.
    pub head_ms: u64,
    /// Between requests.
    pub keepalive_ms: u64,
    /// For a response's head.
    pub response_ms: u64,
    /// Without a byte, in a conversation under way.
    pub idle_ms: u64,
    /// At shutdown.
    pub drain_ms: u64,
    /// For an addon that holds a flow.
    pub hook_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::of(&Typed::default())
    }
}

impl Timeouts {
    fn of(typed: &Typed) -> Self {
        let ms = |name| typed.number(name) * 1000;
        Self {
            connect_ms: ms("connect_timeout"),
            tls_ms: ms("tls_handshake_timeout"),
            head_ms: ms("http_head_timeout"),
            keepalive_ms: ms("keepalive_timeout"),
            response_ms: ms("response_timeout"),
            idle_ms: ms("tcp_timeout"),
            drain_ms: ms("drain_timeout"),
            hook_ms: ms("hook_timeout"),
        }
    }
}

impl Config {
    /// What the written options mean together.
    ///
    /// # Errors
    /// A mode or address that cannot be understood, or two modes on one port.
    pub fn of(typed: &Typed) -> Result<Self, ConfigError> {
        let modes =
            typed.items("mode").iter().map(|spec| ModeSpec::parse(spec)).collect::<Result<Vec<_>, _>>()?;
        let size = |name| usize::try_from(typed.size(name).unwrap_or_default()).unwrap_or(usize::MAX);
        let confdir = expand_home(&typed.text("confdir").unwrap_or_default());
        let control_socket = match typed.text("control_socket").as_deref() {
            Some("off") => None,
            Some(path) => Some(expand_home(path)),
            None => Some(confdir.join("control.sock")),
        };
        let quiet = typed.number("flow_detail") == 0;
        let store_is_set = typed.source("flow_store_max") != Source::Default;
        let config = Self {
            server: typed.flag("server"),
            listen_host: listen_host(typed)?,
            listen_port: u16::try_from(typed.number("listen_port")).unwrap_or(8080),
            workers: workers(typed),
            control_socket,
            metrics_addr: metrics_addr(typed)?,
            ssl_insecure: typed.flag("ssl_insecure"),
            trusted_ca: typed.text("ssl_verify_upstream_trusted_ca").map(|path| expand_home(&path)),
            tls_inplace_records: typed.flag("tls_inplace_records"),
            strategy: match typed.text("connection_strategy").as_deref() == Some("lazy") {
                true => Strategy::Lazy,
                false => Strategy::Eager,
            },
            tcp_splice: Splice::of(typed),
            upstream_cert: typed.flag("upstream_cert"),
            socket_receive_max: Some(size("socket_receive_max")).filter(|bytes| *bytes > 0),
            allow_clients: match typed.source("allow_clients") {
                Source::Default => None,
                _ => Some(ranges(typed, "allow_clients")?),
            },
            allow_destinations: ranges(typed, "allow_destinations")?,
            connect_addr: ranges(typed, "connect_addr")?,
            block_global: typed.flag("block_global"),
            block_private: typed.flag("block_private"),
            keep_host_header: typed.flag("keep_host_header"),
            rawtcp: typed.flag("rawtcp"),
            stream_large_bodies: typed.size("stream_large_bodies"),
            flow_body_max: size("flow_body_max"),
            flow_bodies_max: size("flow_bodies_max"),
            body_size_limit: typed.size("body_size_limit"),
            body_collect_max: size("body_collect_max"),
            collect_budget: size("collect_budget"),
            collect_overflow_refuse: typed.text("collect_overflow").as_deref() == Some("refuse"),
            store_streamed_bodies: typed.flag("store_streamed_bodies"),
            http_head_size_max: head_size("http_head_size_max", typed)?.unwrap_or(HEAD_SIZES.1),
            validate_inbound_headers: typed.flag("validate_inbound_headers"),
            http_headers_max: usize::try_from(typed.number("http_headers_max")).unwrap_or(usize::MAX),
            http_line_max: head_size("http_line_max", typed)?.unwrap_or(size("http_head_size_max")),
            connections_max: usize::try_from(typed.number("connections_max")).unwrap_or(0),
            flow_store_max: if quiet && !store_is_set { 0 } else { size("flow_store_max") },
            recorder_queue_max: size("recorder_queue_max"),
            record_loss_slow: typed.text("record_loss").as_deref() == Some("slow"),
            leaf_cache_max: size("leaf_cache_max"),
            timeouts: Timeouts::of(typed),
            save_stream_file: typed.text("save_stream_file"),
            save_stream_filter: filter(typed, "save_stream_filter")?,
            rfile: typed.text("rfile"),
            readfile_filter: filter(typed, "readfile_filter")?,
            dumper_filter: filter(typed, "dumper_filter")?,
            flow_detail: u8::try_from(typed.number("flow_detail")).unwrap_or(1),
            showhost: typed.flag("showhost"),
            verbosity: verbosity(typed),
            confdir,
            modes,
        };
        config.check_listeners()?;
        Ok(config)
    }

    /// Where a mode listens: one address, or all of both families.
    pub fn listen_addrs(&self, mode: &ModeSpec) -> Vec<SocketAddr> {
        let port = mode.listen_port.unwrap_or(self.listen_port);
        match mode.listen_host.or(self.listen_host) {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            ],
        }
    }

    /// A redirected segment is served: own connections are to be marked.
    pub fn has_transparent(&self) -> bool {
        self.modes.iter().any(|mode| mode.target == Target::Transparent)
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        let mut seen: Vec<(SocketAddr, &str)> = Vec::new();
        for mode in &self.modes {
            for addr in self.listen_addrs(mode) {
                if let Some((_, other)) = seen.iter().find(|(held, _)| *held == addr) {
                    return Err(ConfigError::Conflict(format!(
                        "modes '{other}' and '{mode}' both listen on {addr}: give one of them a port of its own, e.g. {}@{}",
                        mode.full_spec,
                        u32::from(addr.port()) + 1,
                    )));
                }
                seen.push((addr, &mode.full_spec));
            }
        }
        Ok(())
    }
}

/// A size that a head, or a line of it, can have.
fn head_size(name: &'static str, typed: &Typed) -> Result<Option<usize>, ConfigError> {
    let Some(bytes) = typed.size(name) else { return Ok(None) };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if (HEAD_SIZES.0..=HEAD_SIZES.1).contains(&bytes) {
        return Ok(Some(bytes));
    }
    Err(ConfigError::Conflict(format!(
        "option '{name}': {} is not between 1k, which ordinary requests need, and 16m",
        typed.text(name).unwrap_or_default()
    )))
}

/// Bytes of a head, at least and at most.
const HEAD_SIZES: (usize, usize) = (1 << 10, 16 << 20);

fn listen_host(typed: &Typed) -> Result<Option<IpAddr>, ConfigError> {
    match typed.text("listen_host").as_deref() {
        None | Some("" | "*") => Ok(None),
        Some(text) => match text.trim_matches(['[', ']']).parse() {
            Ok(ip) => Ok(Some(ip)),
            Err(_) => Err(ConfigError::Conflict(format!(
                "option 'listen_host': '{text}' is no address of this machine"
            ))),
        },
    }
}

fn workers(typed: &Typed) -> Workers {
    match typed.number("workers") {
        0 => Workers::All,
        n => Workers::Count(usize::try_from(n).unwrap_or(1)),
    }
}

fn verbosity(typed: &Typed) -> LogLevel {
    match typed.text("termlog_verbosity").as_deref() {
        Some("error") => LogLevel::Error,
        Some("warn" | "alert") => LogLevel::Warn,
        Some("debug") => LogLevel::Debug,
        _ => LogLevel::Info,
    }
}

fn metrics_addr(typed: &Typed) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = typed.text("metrics_addr").filter(|text| text != "off") else { return Ok(None) };
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() > 0 => Ok(Some(addr)),
        _ => Err(ConfigError::Conflict(format!(
            "option 'metrics_addr': '{text}' is no address with a port, such as 127.0.0.1:9464 or [::1]:9464"
        ))),
    }
}

fn filter(typed: &Typed, name: &'static str) -> Result<Option<Filter>, ConfigError> {
    let Some(expression) = typed.text(name) else { return Ok(None) };
    let filter = Filter::parse(&expression);
    filter.map(Some).map_err(|error| ConfigError::Conflict(format!("option '{name}': {error}")))
}

fn ranges(typed: &Typed, name: &'static str) -> Result<Vec<Cidr>, ConfigError> {
    let range =
        |text: String| text.parse().map_err(|e| ConfigError::Conflict(format!("option '{name}': {e}")));
    typed.items(name).into_iter().map(range).collect()
}

fn expand_home(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(rest),
        None => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(assignments: &[&str]) -> Result<Config, ConfigError> {
        let mut typed = Typed::default();
        for text in assignments {
            typed.set(text, Source::CommandLine)?;
        }
        Config::of(&typed)
    }

    #[test]
    fn defaults_mean_a_regular_proxy_on_8080() {
        let config = config(&[]).expect("defaults fit");
        assert_eq!(config.modes[0].target, Target::Regular);
        assert_eq!(config.listen_addrs(&config.modes[0])[0].port(), 8080);
        assert_eq!(config.workers, Workers::All);
        assert_eq!(config.timeouts.connect_ms, 15_000);
    }

    #[test]
    fn two_modes_on_one_port_are_refused_by_name() {
        let error = config(&["mode=regular", "mode=transparent"]).expect_err("conflict").to_string();
        assert!(
            error.contains("'regular' and 'transparent'") && error.contains("transparent@8081"),
            "{error}"
        );
        config(&["mode=regular", "mode=transparent@8081"]).expect("two ports");
    }

    #[test]
    fn a_quiet_run_keeps_no_flows_unless_asked() {
        assert_eq!(config(&["flow_detail=0"]).expect("fits").flow_store_max, 0);
        assert_eq!(config(&["flow_detail=0", "flow_store_max=1m"]).expect("fits").flow_store_max, 1 << 20);
    }

    #[test]
    fn metrics_need_an_address_with_a_port() {
        let found =
            |text: &str| config(&[text]).map(|config| config.metrics_addr.map(|addr| addr.to_string()));
        assert_eq!(found("metrics_addr=[::1]:9464").expect("fits").as_deref(), Some("[::1]:9464"));
        assert_eq!(
            (found("workers=1").expect("fits"), found("metrics_addr=off").expect("fits")),
            (None, None)
        );
        for text in [
            "metrics_addr=9464",
            "metrics_addr=localhost:9464",
            "metrics_addr=127.0.0.1:0",
            "metrics_addr=::1",
        ] {
            let error = found(text).expect_err(text).to_string();
            assert!(error.contains("metrics_addr") && error.contains("127.0.0.1:9464"), "{error}");
        }
    }

    #[test]
    fn a_head_too_small_for_requests_is_refused_by_name() {
        for (text, fits) in [("1023", false), ("1k", true), ("0", false), ("16m", true), ("17m", false)] {
            for name in ["http_head_size_max", "http_line_max"] {
                let said = config(&[&format!("{name}={text}")]);
                assert_eq!(said.is_ok(), fits, "{name}={text}");
                if let Err(error) = said {
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
    }

    #[test]
    fn wrong_filters_name_their_option_and_the_place() {
        let error = config(&["dumper_filter=~m GET & ~nonsense"]).expect_err("no operator").to_string();
        assert_eq!(
            error,
            "option 'dumper_filter': ~nonsense is no operator, column 10:\n    ~m GET & ~nonsense\n             ^"
        );
        let filter = config(&["save_stream_filter=~c 200"]).expect("a filter").save_stream_filter;
        assert_eq!(filter.map(|filter| filter.expression().to_owned()).as_deref(), Some("~c 200"));
    }

    #[test]
    fn wrong_ranges_name_their_option() {
        let error = config(&["allow_clients=10.0.0.0/99"]).expect_err("no range").to_string();
        assert!(error.contains("allow_clients"), "{error}");
    }
}
