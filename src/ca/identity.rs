//! Whom a leaf speaks for: the names of the server's certificate and those the client asked for.
//!
//! A server's certificate may be anything, whoever signed it: names are checked for syntax and limited in number and
//! size, and what does not parse is left out. Whether the server may use its names is the verifier's question, not ours.

use std::collections::HashSet;
use std::net::IpAddr;

use aws_lc_rs::digest;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Most names a leaf has.
pub const NAMES_MAX: usize = 256;
/// Most bytes a leaf's names have together.
pub const NAME_BYTES_MAX: usize = 16 * 1024;

/// RFC 5280's upper bound of an organization's name, in characters.
const ORGANIZATION_MAX: usize = 64;
/// The first length that does not fit into a common name; such a name is found in the alternative names only.
const COMMON_NAME_TOO_LONG: usize = 64;
const DNS_NAME_MAX: usize = 253;
const DNS_LABEL_MAX: usize = 63;

/// What a leaf says about itself. Equal identities get the same leaf.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LeafIdentity {
    /// The subject's common name: the first host name or address, unless too long.
    pub common_name: Option<String>,
    /// Subject alternative names, in order, without duplicates.
    pub names: Vec<LeafName>,
    /// The subject's organization, as the server's certificate has it.
    pub organization: Option<String>,
    /// When the server's certificate ends, in unix seconds: the leaf should not outlive it.
    pub not_after: Option<i64>,
}

/// One subject alternative name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeafName {
    /// A host name, lower case, ASCII (internationalized names as A-labels), perhaps with `*` for the first label.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A uniform resource identifier (service meshes name workloads with it).
    Uri(String),
    /// A mail address.
    Email(String),
}

/// The dates of a certificate, in unix seconds: valid from and until, both included. `None`: it cannot be parsed.
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

impl LeafIdentity {
    /// The server's names and the client's: common name and alternative names of `upstream_leaf_der`, then the SNI, or
    /// the server's address if there is no (valid) SNI. What cannot be parsed counts as absent.
    pub fn mirror(upstream_leaf_der: &[u8], sni: Option<&str>, server_ip: Option<IpAddr>) -> Self {
        let asked = asked_name(sni, server_ip);
        let mut names = Names::with_room_for(asked.as_ref());
        let mut identity = Self::default();
        if let Ok((_, upstream)) = X509Certificate::from_der(upstream_leaf_der) {
            identity.organization = upstream.subject().iter_organization().find_map(organization);
            identity.not_after = Some(upstream.validity().not_after.timestamp());
            let common_name = upstream.subject().iter_common_name().next();
            names.extend(common_name.and_then(|name| name.as_str().ok()).and_then(host_name));
            for extension in upstream.extensions() {
                if let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() {
                    names.extend(alternative.general_names.iter().filter_map(general_name));
                }
            }
        }
        identity.names = names.finish(asked);
        identity.common_name = common_name(&identity.names);
        identity
    }

    /// Without a server's certificate: the SNI, or the server's address if there is no (valid) SNI.
    pub fn from_names(sni: Option<&str>, server_ip: Option<IpAddr>) -> Self {
        let names: Vec<_> = asked_name(sni, server_ip).into_iter().collect();
        Self { common_name: common_name(&names), names, ..Self::default() }
    }

    /// A digest that differs when anything differs: every part is preceded by its kind and length.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut part = |kind: u8, bytes: &[u8]| {
            context.update(&[kind]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        if let Some(name) = &self.common_name {
            part(0, name.as_bytes());
        }
        if let Some(organization) = &self.organization {
            part(1, organization.as_bytes());
        }
        if let Some(not_after) = self.not_after {
            part(2, &not_after.to_be_bytes());
        }
        for name in &self.names {
            match name {
                LeafName::Dns(name) => part(3, name.as_bytes()),
                LeafName::Ip(IpAddr::V4(ip)) => part(4, &ip.octets()),
                LeafName::Ip(IpAddr::V6(ip)) => part(4, &ip.octets()),
                LeafName::Uri(uri) => part(5, uri.as_bytes()),
                LeafName::Email(address) => part(6, address.as_bytes()),
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }
}

impl LeafName {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Dns(text) | Self::Uri(text) | Self::Email(text) => text.len(),
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
        }
    }
}

/// Names without duplicates, within the limits. Room is kept for the name the client asked for: without that one the
/// leaf would be of no use, and a server with very many names must not push it out.
struct Names {
    names: Vec<LeafName>,
    seen: HashSet<LeafName>,
    count_left: usize,
    bytes_left: usize,
}

impl Names {
    fn with_room_for(asked: Option<&LeafName>) -> Self {
        Self {
            names: Vec::new(),
            seen: HashSet::new(),
            count_left: NAMES_MAX - usize::from(asked.is_some()),
            bytes_left: NAME_BYTES_MAX - asked.map_or(0, LeafName::size),
        }
    }

    fn extend(&mut self, names: impl IntoIterator<Item = LeafName>) {
        for name in names {
            if self.count_left == 0 {
                return;
            }
            if name.size() <= self.bytes_left && self.seen.insert(name.clone()) {
                self.count_left -= 1;
                self.bytes_left -= name.size();
                self.names.push(name);
            }
        }
    }

    fn finish(mut self, asked: Option<LeafName>) -> Vec<LeafName> {
        self.names.extend(asked.filter(|name| !self.seen.contains(name)));
        self.names
    }
}

fn asked_name(sni: Option<&str>, server_ip: Option<IpAddr>) -> Option<LeafName> {
    // A client asks for one host. With a wildcard it would get a certificate for hosts it did not ask for.
    let sni = sni.filter(|sni| !sni.contains('*')).and_then(host_name);
    sni.or_else(|| server_ip.map(|ip| LeafName::Ip(ip.to_canonical())))
}

fn common_name(names: &[LeafName]) -> Option<String> {
    let first = names.iter().find_map(|name| match name {
        LeafName::Dns(name) => Some(name.clone()),
        LeafName::Ip(ip) => Some(ip.to_string()),
        LeafName::Uri(_) | LeafName::Email(_) => None,
    });
    first.filter(|name| name.len() < COMMON_NAME_TOO_LONG)
}

fn organization(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let text = attribute.as_str().ok()?.trim();
    let fits = (1..=ORGANIZATION_MAX).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn general_name(name: &GeneralName<'_>) -> Option<LeafName> {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match name {
        GeneralName::DNSName(text) => host_name(text),
        GeneralName::IPAddress(octets) => address(octets).map(LeafName::Ip),
        GeneralName::URI(text) if visible(text) => Some(LeafName::Uri((*text).to_owned())),
        GeneralName::RFC822Name(text) if visible(text) => Some(LeafName::Email((*text).to_owned())),
        _ => None,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// A host name or an address in text form. Letters, digits, hyphens and (seen in the wild) underscores make a label;
/// hyphens may stand anywhere, for there are hosts called so. A final dot is not part of a certificate's names.
fn host_name(text: &str) -> Option<LeafName> {
    if let Ok(ip) = text.parse() {
        return Some(LeafName::Ip(ip));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = text.strip_prefix("*.").unwrap_or(text);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=DNS_LABEL_MAX).contains(&label.len()) && label.bytes().all(letter);
    let valid = text.len() <= DNS_NAME_MAX && plain.split('.').all(label);
    valid.then(|| LeafName::Dns(text.to_ascii_lowercase()))
}
