//! The one table of options: flags, `--set`, `--options`, help and checks all come from here.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`; without a value: true; `toggle`.
    Bool,
    /// A whole number in a range.
    Int(i64, i64),
    /// A size: `512`, `64k`, `3m`, `1g`.
    Size,
    /// A size, or nothing.
    OptSize,
    /// Text.
    Str,
    /// Text, or nothing.
    OptStr,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list: repeated, or several separated by commas where `split` is set.
    Seq {
        /// Commas separate items.
        split: bool,
    },
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// mitmproxy's name, where it has one.
    pub name: &'static str,
    /// What a value looks like.
    pub shape: Shape,
    /// The default as it would be written; empty: none.
    pub default: &'static str,
    /// Long flag, if it has one of its own, and its short form.
    pub flag: Option<(&'static str, Option<char>)>,
    /// What it does, in one or two sentences.
    pub help: &'static str,
}

const fn opt(name: &'static str, shape: Shape, default: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, shape, default, flag: None, help }
}

const fn flag(long: &'static str, short: Option<char>, spec: OptionSpec) -> OptionSpec {
    OptionSpec { flag: Some((long, short)), ..spec }
}

const SECONDS: Shape = Shape::Int(1, 86_400);
const LIST: Shape = Shape::Seq { split: true };

/// Every option, in the order of help.
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = &[
    flag("mode", Some('m'), opt("mode", Shape::Seq { split: false }, "regular",
        "How clients reach us: regular, transparent or reverse:SCHEME://HOST[:PORT], each with an optional @[HOST:]PORT. May be repeated.")),
    flag("listen-host", None, opt("listen_host", Shape::Str, "",
        "Address to listen on; empty: all, IPv4 and IPv6.")),
    flag("listen-port", Some('p'), opt("listen_port", Shape::Int(1, 65_535), "8080",
        "Port to listen on, unless a mode names its own.")),
    flag("server", None, opt("server", Shape::Bool, "true",
        "Start the listeners; --no-server (-n) only reads files.")),
    flag("save-stream-file", Some('w'), opt("save_stream_file", Shape::OptStr, "",
        "Write flows to this file as they complete (mode 0600; '+' before the path appends).")),
    flag("rfile", Some('r'), opt("rfile", Shape::OptStr, "",
        "Read flows from this file.")),
    opt("save_stream_filter", Shape::OptStr, "",
        "Write only flows that match this filter (docs/filters.md)."),
    opt("readfile_filter", Shape::OptStr, "",
        "Read only flows that match this filter."),
    opt("dumper_filter", Shape::OptStr, "",
        "Print only flows that match this filter."),
    flag("flow-detail", None, opt("flow_detail", Shape::Int(0, 4), "1",
        "What is printed of a flow: 0 nothing, 1 one line, 2 headers too, 3 bodies cut, 4 all of it.")),
    flag("showhost", None, opt("showhost", Shape::Bool, "false",
        "Show the name of the Host header in URLs instead of the address.")),
    flag("ssl-insecure", Some('k'), opt("ssl_insecure", Shape::Bool, "false",
        "Do not verify the certificates of servers.")),
    flag("rawtcp", None, opt("rawtcp", Shape::Bool, "true",
        "Relay as raw TCP what is neither TLS nor HTTP; off: such connections are closed.")),
    opt("workers", Shape::Int(0, 1024), "0",
        "Worker threads, each pinned to a processor; 0: one for every processor we may use."),
    opt("confdir", Shape::Str, "~/.ringtap",
        "Directory of the CA files (ringtap-ca.pem; a mitmproxy-ca.pem is recognised) and of the control socket."),
    opt("control_socket", Shape::OptStr, "",
        "Path of the control socket; default control.sock in confdir, 'off' for none."),
    opt("metrics_addr", Shape::OptStr, "",
        "Address and port where metrics are served to Prometheus, at /metrics: 127.0.0.1:9464, [::1]:9464. There is no password: keep it on loopback, or behind a firewall."),
    opt("ssl_verify_upstream_trusted_ca", Shape::OptStr, "",
        "PEM file of the certificates trusted to sign servers'; default the system's store."),
    opt("connection_strategy", Shape::Choice(&["eager", "lazy"]), "eager",
        "When to connect to servers. eager: before the client's TLS handshake and before a CONNECT is answered, and when a client is silent, so that certificates and protocols are mirrored and servers may speak first; a plain request is waited for, unlike in mitmproxy. lazy: when a request or raw bytes need it."),
    opt("upstream_cert", Shape::Bool, "true",
        "Mirror the names in the server's certificate, where it is known before the client's handshake (connection_strategy); off: only the name the client asks for."),
    opt("allow_clients", LIST, "",
        "Address ranges of clients that may use explicit modes (regular, reverse); default loopback and the networks we are on. Redirected connections are not asked."),
    opt("allow_destinations", LIST, "",
        "Address ranges that clients of explicit modes may reach although they are ours, loopback or link-local."),
    opt("connect_addr", LIST, "",
        "Our own address for connections to servers; default the kernel's choice. Unlike mitmproxy's also several, or ranges such as 192.0.2.0/28, of either family: each destination gets those of its family in turn, so that ports do not run out. A range means our addresses in it."),
    opt("block_global", Shape::Bool, "true",
        "Refuse clients with public addresses that connect to a listener directly. Redirected connections are not asked."),
    opt("block_private", Shape::Bool, "false",
        "Refuse clients with private addresses that connect to a listener directly."),
    opt("keep_host_header", Shape::Bool, "false",
        "Reverse mode: pass the client's Host header on instead of the server's name."),
    opt("stream_large_bodies", Shape::OptSize, "",
        "Bodies above this size are streamed past addons and not kept in flows (store_streamed_bodies keeps them). Unlike mitmproxy, smaller ones are streamed as well unless an addon may change them."),
    opt("store_streamed_bodies", Shape::Bool, "false",
        "Keep streamed bodies in flows whatever their size, as far as flow_bodies_max allows. Unlike mitmproxy, up to flow_body_max is kept of a body that nobody asked to be streamed."),
    opt("flow_body_max", Shape::Size, "1m",
        "Bytes of a body that a recorded flow keeps; a longer body is missing from the flow."),
    opt("flow_bodies_max", Shape::Size, "256m",
        "Bytes of bodies and raw messages that all flows under way keep for recorders; past it they are missing from flows."),
    opt("body_size_limit", Shape::OptSize, "",
        "Refuse larger bodies: 413 for requests, 502 for responses."),
    opt("body_collect_max", Shape::Size, "64m",
        "Bytes of a body collected for an addon that may change it; collect_overflow says what becomes of a longer one."),
    opt("collect_budget", Shape::Size, "256m",
        "Bytes that all bodies being collected may take together; collect_overflow says what becomes of one that does not fit."),
    opt("collect_overflow", Shape::Choice(&["stream", "refuse"]), "stream",
        "A body that addons want but that is longer than body_collect_max, or does not fit into collect_budget: stream it past them (said, counted, noted in the flow), or refuse it: 413 for requests, 502 for responses."),
    opt("flow_store_max", Shape::Size, "64m",
        "Bytes of finished flows kept in memory for 'ringtap ctl flows', oldest dropped first; 0: none, and nothing is built for it. With -q the default is 0."),
    opt("recorder_queue_max", Shape::Size, "64m",
        "Bytes of finished flows that may wait for a slow disk; past it flows are lost, counted and said."),
    opt("record_loss", Shape::Choice(&["drop", "slow"]), "drop",
        "When the recorder cannot keep up: drop flows (counted, and said in the log), or slow each session's next exchange down, for at most a second."),
    opt("http_head_size_max", Shape::Size, "64k",
        "Bytes of a request's or response's head, at least 1k: 431 or 502 above."),
    opt("validate_inbound_headers", Shape::Bool, "true",
        "Refuse malformed and ambiguous heads (400 or 502). Off: a head that can be read in one way only is written anew in that way; what is ambiguous, and bodies, are judged as before."),
    opt("http_headers_max", Shape::Int(16, 10_000), "256",
        "Header lines of a head: 431 or 502 above."),
    opt("http_line_max", Shape::OptSize, "",
        "Bytes of one line of a head: 414, 431 or 502 above; default as much as the whole head may have."),
    opt("connections_max", Shape::Int(0, 10_000_000), "0",
        "Client connections at once; more are closed and counted. 0: what the limit of open files allows."),
    opt("socket_receive_max", Shape::Size, "2m",
        "Bytes that the kernel may hold of one server's data while its client takes none. A connection moves this much in each round trip: more is faster over long distances, less takes less memory. Needs CAP_NET_ADMIN; 0, or without it: what net.ipv4.tcp_rmem allows."),
    opt("connect_timeout", SECONDS, "15",
        "Seconds to reach a server: 504 after that."),
    opt("tls_handshake_timeout", SECONDS, "20",
        "Seconds for a TLS handshake on either side."),
    opt("tls_inplace_records", Shape::Bool, "true",
        "Open and seal TLS 1.3 records where they lie, which is faster and takes less memory. Off: with the record layer of the TLS library."),
    opt("http_head_timeout", SECONDS, "60",
        "Seconds from the first byte of a request's head to its last: 408 after that."),
    opt("keepalive_timeout", SECONDS, "600",
        "Seconds a connection may be idle between requests."),
    opt("response_timeout", SECONDS, "300",
        "Seconds to wait for a response's head: 504 after that."),
    opt("tcp_timeout", SECONDS, "600",
        "Seconds without a byte in either direction after which a conversation is closed."),
    opt("tcp_splice", Shape::Choice(&["auto", "on", "off"]), "off",
        "Let the kernel move the bytes of long raw conversations that nobody records or listens to: auto, where client and server are both on this machine; on, over any interface; off, copy always, into big buffers. Measure before you turn it on: copying costs little beside the rest, and moving gained nothing where it was measured."),
    opt("drain_timeout", Shape::Int(0, 3600), "10",
        "Seconds that exchanges under way may still take at shutdown."),
    opt("hook_timeout", SECONDS, "60",
        "Seconds an addon may hold a flow before it goes on unchanged."),
    opt("leaf_cache_max", Shape::Size, "16m",
        "Bytes of forged certificates kept."),
    opt("termlog_verbosity", Shape::Choice(&["error", "warn", "info", "alert", "debug"]), "info",
        "How much is logged to standard error."),
];

/// Options of mitmproxy that belong to its user interfaces or to work that is not part of this version.
const ELSEWHERE: &[&str] = &[
    "add_upstream_certs_to_client_chain",
    "allow_hosts",
    "anticache",
    "anticomp",
    "block_list",
    "cert_passphrase",
    "certs",
    "ciphers_client",
    "ciphers_server",
    "client_certs",
    "client_replay",
    "client_replay_concurrency",
    "command_history",
    "console_default_contentview",
    "console_eventlog_verbosity",
    "console_flowlist_layout",
    "console_focus_follow",
    "console_layout",
    "console_layout_headers",
    "console_mouse",
    "console_palette",
    "console_palette_transparent",
    "console_quickhelp_visible",
    "console_strip_trailing_newlines",
    "content_view_lines_cutoff",
    "dns_name_servers",
    "dns_use_hosts_file",
    "dumper_default_contentview",
    "export_preserve_original_ip",
    "hardump",
    "http2",
    "http2_ping_keepalive",
    "http3",
    "http_connect_send_host_header",
    "ignore_hosts",
    "intercept",
    "intercept_active",
    "keep_alt_svc_header",
    "keepserving",
    "key_size",
    "map_local",
    "map_remote",
    "modify_body",
    "modify_headers",
    "normalize_outbound_headers",
    "onboarding",
    "onboarding_host",
    "protobuf_definitions",
    "proxy_debug",
    "proxyauth",
    "request_client_cert",
    "scripts",
    "server_replay",
    "server_replay_extra",
    "server_replay_ignore_content",
    "server_replay_ignore_host",
    "server_replay_ignore_params",
    "server_replay_ignore_payload_params",
    "server_replay_ignore_port",
    "server_replay_kill_extra",
    "server_replay_nopop",
    "server_replay_refresh",
    "server_replay_reuse",
    "server_replay_use_headers",
    "show_ignored_hosts",
    "ssl_verify_upstream_trusted_confdir",
    "stickyauth",
    "stickycookie",
    "strip_ech",
    "tcp_hosts",
    "tls_ecdh_curve_client",
    "tls_ecdh_curve_server",
    "tls_version_client_max",
    "tls_version_client_min",
    "tls_version_server_max",
    "tls_version_server_min",
    "udp_hosts",
    "upstream_auth",
    "view_filter",
    "view_order",
    "view_order_reversed",
    "web_columns",
    "web_debug",
    "web_host",
    "web_open_browser",
    "web_password",
    "web_port",
    "web_static_viewer",
    "websocket",
];

/// The option of that name.
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// What to say behind an unknown name: that it is not part of this version, or the nearest one.
pub fn hint_for_unknown(name: &str) -> String {
    if ELSEWHERE.contains(&name) {
        return ": a mitmproxy option that is not part of this version of ringtap".to_owned();
    }
    let near = OPTIONS.iter().map(|option| (distance(name, option.name), option.name)).min();
    match near {
        Some((distance, near)) if distance <= 3 => format!(" (did you mean '{near}'?)"),
        _ => " ('ringtap dump --options' lists them)".to_owned(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_helpful() {
        let mut names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPTIONS.len());
        for option in OPTIONS {
            assert!(option.help.ends_with('.') && option.help.len() > 20, "{}", option.name);
            assert!(!ELSEWHERE.contains(&option.name), "{} is part of this version", option.name);
        }
    }

    #[test]
    fn unknown_names_get_the_nearest_one_or_the_truth() {
        assert_eq!(hint_for_unknown("worker"), " (did you mean 'workers'?)");
        assert!(hint_for_unknown("scripts").contains("not part of this version"));
        assert!(hint_for_unknown("zzzzzzzzzzzz").contains("--options"));
    }
}
