//! From flags to [`Settings`]: what is missing gets its default, what is wrong is named by its flag.

use clap::ArgMatches;

use crate::redirect::Error;
use crate::redirect::apply::Removal;
use crate::redirect::settings::{
    self, Backend, DEFAULT_FWMARK, DEFAULT_MARK, DEFAULT_PORTS, DEFAULT_ROUTE_TABLE, DEFAULT_TABLE,
    DEFAULT_TO_PORT, OnFailure, Settings, Via, exemptions,
};
use crate::redirect::value::{self, Cidr};

/// The flags of `print` and `apply`.
pub(crate) fn settings(matches: &ArgMatches) -> Result<Settings, Error> {
    let settings = Settings {
        backend: backend(matches).unwrap_or(Backend::Nft),
        via: via(matches)?,
        ifaces: parsed_all(matches, "iface", "--iface", settings::iface)?,
        from: Cidr::disjoint(parsed_all(matches, "from", "--from", str::parse)?),
        except: exemptions(parsed_all(matches, "except", "--except", str::parse)?),
        ports: parsed(matches, "ports", "--ports", DEFAULT_PORTS, str::parse)?,
        to_port: to_port(matches)?,
        on_failure: match text(matches, "on-failure") {
            Some("closed") => OnFailure::Closed,
            _ => OnFailure::Open,
        },
        quic_rejected: text(matches, "quic") != Some("allow"),
        own_traffic: matches.get_flag("own-traffic"),
        mark: parsed(matches, "mark", "--mark", DEFAULT_MARK, str::parse)?,
        fwmark: fwmark(matches)?,
        route_table: route_table(matches)?,
        table: table(matches)?,
    };
    settings.fit_together()?;
    Ok(settings)
}

/// The flags of `remove`.
pub(super) fn removal(matches: &ArgMatches) -> Result<Removal, Error> {
    Ok(Removal {
        port: to_port(matches)?,
        table: table(matches)?,
        table_chosen: matches.contains_id("table"),
        backend: backend(matches),
        fwmark: fwmark(matches)?,
        route_table: route_table(matches)?,
    })
}

/// `--to-port`: also the name under which `apply` leaves its note.
pub(super) fn to_port(matches: &ArgMatches) -> Result<u16, Error> {
    parsed(matches, "to-port", "--to-port", DEFAULT_TO_PORT, value::port)
}

/// `--backend`, if the operator chose one.
fn backend(matches: &ArgMatches) -> Option<Backend> {
    text(matches, "backend").map(|name| if name == "iptables" { Backend::Iptables } else { Backend::Nft })
}

fn table(matches: &ArgMatches) -> Result<String, Error> {
    parsed(matches, "table", "--table", DEFAULT_TABLE, settings::table_name)
}

fn fwmark(matches: &ArgMatches) -> Result<u32, Error> {
    parsed(matches, "fwmark", "--fwmark", DEFAULT_FWMARK, settings::fwmark)
}

fn route_table(matches: &ArgMatches) -> Result<u32, Error> {
    parsed(matches, "route-table", "--route-table", DEFAULT_ROUTE_TABLE, settings::route_table)
}

fn via(matches: &ArgMatches) -> Result<Via, Error> {
    match (matches.get_flag("tproxy"), text(matches, "via")) {
        (true, Some("redirect")) => {
            Err(Error::flags("--tproxy", "contradicts --via redirect; keep one of the two"))
        }
        (true, _) | (_, Some("tproxy")) => Ok(Via::Tproxy),
        _ => Ok(Via::Redirect),
    }
}

fn text<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a str> {
    matches.get_one::<String>(id).map(String::as_str)
}

fn parsed<T>(
    matches: &ArgMatches,
    id: &str,
    option: &'static str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Error> {
    let text = text(matches, id).unwrap_or(default);
    parse(text).map_err(|problem| Error::value(option, text, problem))
}

fn parsed_all<T>(
    matches: &ArgMatches,
    id: &str,
    option: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Error> {
    let texts = matches.get_many::<String>(id).unwrap_or_default();
    texts.map(|text| parse(text).map_err(|problem| Error::value(option, text, problem))).collect()
}
