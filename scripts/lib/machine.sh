# shellcheck shell=bash
# What the scripts share about the machine they run on: sourced, never run.
# shellcheck disable=SC2034 # its variables are for who sources it

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '\033[1m%s\033[0m\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "needs root (network namespaces): sudo $0 $*"
}

# install_missing COMMAND=PACKAGE...: installs the packages of commands that are not there.
install_missing() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]} (this is not Debian: I do not know how)"
    [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}; run this as root once, or install them"
    say "installing ${missing[*]}"
    # a server that is installed for its program must not start to serve
    local policy=/usr/sbin/policy-rc.d ours='' service newly=()
    for service in nginx haproxy; do
        command -v "$service" >/dev/null || newly+=("$service")
    done
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        ours=1
    fi
    local result=0
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null || result=$?
    [ -z "$ours" ] || rm -f $policy
    [ $result = 0 ] || die "apt-get could not install ${missing[*]}"
    for service in "${newly[@]}"; do
        if command -v "$service" >/dev/null && command -v systemctl >/dev/null; then
            systemctl disable --quiet "$service" 2>/dev/null || true
        fi
    done
}

# Finds cargo: ours, or that of the user behind sudo. Says how to get it otherwise.
find_cargo() {
    cargo=(cargo)
    PATH=$PATH:$HOME/.cargo/bin
    command -v cargo >/dev/null && return
    if [ -n "${SUDO_USER:-}" ] && runuser -u "$SUDO_USER" -- bash -lc 'command -v cargo' >/dev/null 2>&1; then
        # shellcheck disable=SC2016 # the inner shell expands it
        cargo=(runuser -u "$SUDO_USER" -- bash -lc 'exec cargo "$@"' cargo)
        return
    fi
    die "cargo is missing: install Rust (https://rustup.rs) and start again; Cargo.toml says which version"
}
