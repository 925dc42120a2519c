# shellcheck shell=bash
# A segment of network in a box, for scripts/demo and scripts/netlab: sourced, never run.
#
#   client                      gateway                        origin
#   c0 10.78.1.2          g0 10.78.1.1   g1 10.78.2.1    o0 10.78.2.2    nginx: example.test, www.example.test
#      fd00:78:1::2          fd00:78:1::1   fd00:78:2::1       fd00:78:2::2
#
# The caller sets `segment` (the name its namespaces begin with) and `state` (a directory for keys, logs, pids) first.

: "${segment:?set by the caller}" "${state:?set by the caller}"
# shellcheck source=scripts/lib/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"

# Builds ringtap, unless RINGTAP_BIN names one; sets `ringtap`.
build_ringtap() {
    if [ -n "${RINGTAP_BIN:-}" ]; then
        ringtap=$(realpath "$RINGTAP_BIN")
        return
    fi
    install_missing cc=gcc make=make
    find_cargo
    say "building ringtap (release)"
    (cd "$root" && "${cargo[@]}" build --release --locked)
    ringtap=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}/release/ringtap")
}

# segment_up: the namespaces, their addresses and routes, forwarding in the gateway.
segment_up() {
    local place
    mkdir -p "$state"
    for place in client gateway origin; do
        ip netns add "$segment-$place"
        ip -n "$segment-$place" link set lo up
    done
    _cable client c0 2 gateway g0 1 1
    _cable gateway g1 1 origin o0 2 2
    _ip client route add default via 10.78.1.1
    _ip client -6 route add default via fd00:78:1::1
    _ip origin route add default via 10.78.2.1
    _ip origin -6 route add default via fd00:78:2::1
    ip netns exec "$segment-gateway" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    {
        echo "127.0.0.1 localhost"
        echo "::1 localhost"
        echo "10.78.2.2 example.test www.example.test"
        echo "fd00:78:2::2 example.test www.example.test"
    } >"$state/hosts"
}

# segment_down: ends what runs in the namespaces, by pid, and removes them and the state directory.
segment_down() {
    local place pid pids tries
    for place in client gateway origin; do
        [ -e "/run/netns/$segment-$place" ] || continue
        for tries in {1..50}; do
            pids=$(ip netns pids "$segment-$place")
            [ -n "$pids" ] || break
            for pid in $pids; do
                kill -KILL "$pid" 2>/dev/null || true
            done
            [ "$tries" = 1 ] || sleep 0.1
        done
        ip netns del "$segment-$place"
    done
    rm -rf "$state"
}

# entering PLACE: sets `enter`, the command that runs another in a namespace, with the segment's host names.
entering() {
    # shellcheck disable=SC2016 # the inner shell expands it
    enter=(nsenter "--net=/run/netns/$segment-$1" unshare -m
        sh -ec 'mount --bind "$0" /etc/hosts; exec "$@"' "$state/hosts")
}

# inside PLACE COMMAND...: runs it there.
inside() {
    entering "$1"
    shift
    "${enter[@]}" "$@"
}

# origin_up: a test authority and nginx with http and https; its CA is $state/origin-ca.crt.
origin_up() {
    local www=$state/www
    mkdir -p "$www"
    _keys
    echo "hello from the origin" >"$www/index.html"
    head -c 102400 /dev/urandom >"$www/100k"
    cat >"$state/nginx.conf" <<CONF
user root; worker_processes 1; pid $state/nginx.pid; error_log $state/nginx.err;
events { worker_connections 4096; }
http {
  access_log off; root $www; default_type text/plain; server_tokens off; keepalive_requests 1000000;
  sendfile on; tcp_nopush on;
  client_body_temp_path $state/t1; proxy_temp_path $state/t2; fastcgi_temp_path $state/t3;
  uwsgi_temp_path $state/t4; scgi_temp_path $state/t5;
  server {
    listen 80; listen [::]:80; listen 443 ssl http2; listen [::]:443 ssl http2;
    server_name example.test www.example.test;
    ssl_certificate $state/origin.crt; ssl_certificate_key $state/origin.key;
  }
}
CONF
    inside origin nginx -p "$state" -e "$state/nginx.err" -c "$state/nginx.conf"
}

# ringtap_up ARGUMENT...: ringtap in the gateway, listening on 8080; output in $state/ringtap.{out,err}.
ringtap_up() {
    entering gateway
    # a command, not a function: the pid is to be ringtap's own
    RINGTAP_RUNTIME_DIR=$state "${enter[@]}" setsid "$ringtap" dump --mode transparent --listen-port 8080 \
        --set "confdir=$state/conf" --set "ssl_verify_upstream_trusted_ca=$state/origin-ca.crt" "$@" \
        >"$state/ringtap.out" 2>"$state/ringtap.err" </dev/null &
    ringtap_pid=$!
    local tries=0
    until inside gateway ss -Hltn 'sport = :8080' | grep -q .; do
        kill -0 "$ringtap_pid" 2>/dev/null || die "ringtap did not start: $(cat "$state/ringtap.err")"
        tries=$((tries + 1))
        [ $tries -lt 100 ] || die "ringtap does not listen after 10 s: $(cat "$state/ringtap.err")"
        sleep 0.1
    done
}

redirect() {
    RINGTAP_RUNTIME_DIR=$state inside gateway "$ringtap" redirect "$@"
}

_ip() {
    local place=$1
    shift
    ip -n "$segment-$place" "$@"
}

# _cable PLACE DEVICE HOST PLACE DEVICE HOST NETWORK
_cable() {
    ip link add "$2" netns "$segment-$1" type veth peer name "$5" netns "$segment-$4"
    local end
    for end in "$1 $2 $3" "$4 $5 $6"; do
        read -r place device host <<<"$end"
        _ip "$place" addr add "10.78.$7.$host/24" dev "$device"
        _ip "$place" addr add "fd00:78:$7::$host/64" dev "$device" nodad
        _ip "$place" link set "$device" up
    done
}

_keys() {
    local ca=$state/origin-ca key=$state/origin
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$ca.key" -out "$ca.crt" -days 30 \
        -subj "/O=Segment/CN=Segment origin CA" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$key.key" -out "$key.csr" \
        -subj "/O=Segment/CN=example.test" 2>/dev/null
    openssl x509 -req -in "$key.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 30 -out "$key.crt" \
        -extfile <(printf 'subjectAltName=DNS:example.test,DNS:www.example.test,IP:10.78.2.2,IP:fd00:78:2::2\n') 2>/dev/null
}
