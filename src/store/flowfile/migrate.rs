//! Files of older formats, made new step by step before anything is decoded: each step knows only the format
//! it begins with. A format older than the first step is refused by its number.

use std::fmt;

use crate::store::tnetstring::{Dict, Node, Value};

/// A format's number. Up to 3.0 it was a pair, and only the first two parts tell formats apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion(pub i64, pub i64);

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Pairs end with 3.0; from 4 on a plain number is written.
            FormatVersion(major, minor) if *major < 4 => write!(f, "{major}.{minor}"),
            FormatVersion(major, _) => write!(f, "{major}"),
        }
    }
}

/// Why a flow cannot be brought to the current format.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NoVersion,
    TooOld(FormatVersion),
    TooNew(FormatVersion),
}

struct Step {
    from: FormatVersion,
    to: FormatVersion,
    apply: for<'a> fn(&mut Dict<'a>),
}

/// In order; a step ends where the next one begins.
const STEPS: [Step; 2] = [
    Step { from: FormatVersion(19, 0), to: FormatVersion(20, 0), apply: drop_connection_state },
    Step { from: FormatVersion(20, 0), to: FormatVersion(21, 0), apply: name_quic_v1 },
];

const CURRENT: FormatVersion = FormatVersion(super::VERSION, 0);

/// Brings a flow to the current format.
pub(super) fn migrate(flow: &mut Dict<'_>) -> Result<(), Refused> {
    let mut version = version(flow).ok_or(Refused::NoVersion)?;
    while version != CURRENT {
        if version > CURRENT {
            return Err(Refused::TooNew(version));
        }
        let step = STEPS.iter().find(|step| step.from == version).ok_or(Refused::TooOld(version))?;
        (step.apply)(flow);
        version = step.to;
    }
    Ok(())
}

fn version(flow: &Dict<'_>) -> Option<FormatVersion> {
    let (_, node) = flow.iter().rev().find(|(key, _)| *key == b"version")?;
    match &node.value {
        Value::Int(number) => Some(FormatVersion(*number, 0)),
        Value::List(parts) => match parts.as_slice() {
            [Node { value: Value::Int(major), .. }, Node { value: Value::Int(minor), .. }, ..] => {
                Some(FormatVersion(*major, *minor))
            }
            _ => None,
        },
        _ => None,
    }
}

fn drop_connection_state(flow: &mut Dict<'_>) {
    connections(flow).for_each(|connection| connection.retain(|(key, _)| *key != b"state"));
}

fn name_quic_v1(flow: &mut Dict<'_>) {
    for connection in connections(flow) {
        for (key, node) in connection.iter_mut() {
            if *key == b"tls_version" && node.value == Value::Text("QUIC") {
                node.value = Value::Text("QUICv1");
            }
        }
    }
}

fn connections<'n, 'a>(flow: &'n mut Dict<'a>) -> impl Iterator<Item = &'n mut Dict<'a>> {
    flow.iter_mut().filter_map(|(key, node)| match (*key, &mut node.value) {
        (b"client_conn" | b"server_conn", Value::Dict(entries)) => Some(entries),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_version(value: Value<'_>) -> Dict<'_> {
        vec![(&b"version"[..], Node { at: 0, value })]
    }

    fn pair(parts: &[i64]) -> Value<'static> {
        Value::List(parts.iter().map(|part| Node { at: 0, value: Value::Int(*part) }).collect())
    }

    #[test]
    fn steps_lead_to_the_current_format_without_a_gap() {
        for (step, next) in STEPS.iter().zip(&STEPS[1..]) {
            assert_eq!(step.to, next.from);
            assert!(step.from < step.to);
        }
        assert_eq!(STEPS[STEPS.len() - 1].to, CURRENT);
    }

    #[test]
    fn other_formats_are_refused_by_their_number() {
        let refused = |value| migrate(&mut of_version(value)).unwrap_err();
        assert_eq!(refused(Value::Int(18)), Refused::TooOld(FormatVersion(18, 0)));
        assert_eq!(refused(Value::Int(22)), Refused::TooNew(FormatVersion(22, 0)));
        assert_eq!(refused(Value::Int(-1)), Refused::TooOld(FormatVersion(-1, 0)));
        assert_eq!(refused(pair(&[0, 18, 2])), Refused::TooOld(FormatVersion(0, 18)));
        assert_eq!(refused(pair(&[3])), Refused::NoVersion);
        assert_eq!(refused(Value::Null), Refused::NoVersion);
        assert_eq!(FormatVersion(0, 18).to_string(), "0.18");
        assert_eq!(FormatVersion(9, 0).to_string(), "9");
    }

    #[test]
    fn older_connections_lose_their_state_and_gain_the_name_of_quic() {
        let entry = |key: &'static str, value| (key.as_bytes(), Node { at: 0, value });
        let connection = vec![entry("state", Value::Int(0)), entry("tls_version", Value::Text("QUIC"))];
        let mut flow = of_version(Value::Int(19));
        flow.push(entry("client_conn", Value::Dict(connection)));
        migrate(&mut flow).unwrap();
        let expected = vec![entry("tls_version", Value::Text("QUICv1"))];
        assert_eq!(flow[1].1.value, Value::Dict(expected));
    }
}
