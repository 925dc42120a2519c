//! Kernel settings a gateway needs. Ours to check and to name; ours to change only when asked (`apply --sysctl`).

use std::fs;

use super::error::Error;
use super::settings::Settings;

/// One setting and what it is for.
pub(crate) struct Sysctl {
    pub(crate) key: String,
    pub(crate) value: &'static str,
    pub(crate) why: &'static str,
    /// Without it nothing is forwarded; the others only matter in some networks.
    pub(crate) essential: bool,
}

impl Sysctl {
    /// The value in force, or nothing where the kernel has no such setting (IPv6 switched off, interface gone).
    pub(crate) fn current(&self) -> Option<String> {
        fs::read_to_string(self.path()).ok().map(|text| text.trim().to_owned())
    }

    pub(crate) fn set(&self) -> Result<(), Error> {
        fs::write(self.path(), self.value)
            .map_err(|source| Error::Kernel { action: format!("set {}={}", self.key, self.value), source })
    }

    /// Where an interface's name holds a dot, so does the path: only the key's own dots are slashes.
    fn path(&self) -> String {
        match self.key.strip_prefix(RP_FILTER.0).and_then(|rest| rest.strip_suffix(RP_FILTER.1)) {
            Some(iface) => format!("/proc/sys/net/ipv4/conf/{}/rp_filter", iface.replace('/', ".")),
            None => format!("/proc/sys/{}", self.key.replace('.', "/")),
        }
    }
}

/// What these settings want, in the order a person would set it.
pub(crate) fn wanted(settings: &Settings) -> Vec<Sysctl> {
    let forwarding = |key: &str, why| Sysctl { key: key.to_owned(), value: "1", why, essential: true };
    let mut all = vec![
        forwarding("net.ipv4.ip_forward", "IPv4 that ringtap does not take is not forwarded"),
        forwarding("net.ipv6.conf.all.forwarding", "IPv6 that ringtap does not take is not forwarded"),
    ];
    for iface in &settings.ifaces {
        all.push(Sysctl {
            // sysctl(8) swaps dots and slashes, so that `lan0.7` is written `lan0/7`.
            key: format!("{}{}{}", RP_FILTER.0, iface.replace('.', "/"), RP_FILTER.1),
            value: "2",
            why: "strict reverse-path filtering drops clients whose way back is another interface",
            essential: false,
        });
    }
    all
}

/// Whether the value in force does what the wanted one is for.
pub(crate) fn sound(sysctl: &Sysctl) -> bool {
    match sysctl.current() {
        None => true,
        // 0 (off) and 2 (loose) are both fine; the kernel uses the higher one of `all` and the interface's own.
        Some(value) if !sysctl.essential => {
            let all = fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap_or_default();
            value.as_str().max(all.trim()) != "1"
        }
        Some(value) => value != "0",
    }
}

const RP_FILTER: (&str, &str) = ("net.ipv4.conf.", ".rp_filter");
