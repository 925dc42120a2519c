//! `ringtap dump`: intercept, print, record; or read a recording back.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{USAGE, is_set};
use crate::config::{Config, ConfigError, LogLevel, OPTIONS, OptionSpec, Shape, Source, Typed};
use crate::engine;
use crate::filter::Filter;
use crate::flow::Flow;
use crate::store::{FlowReader, RecorderFile};
use crate::telemetry::log;
use crate::ui::dump::Dumper;

/// Flags that mitmproxy users type, and what to say instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("scripts", "addons in scripts are not part of this version"),
    ("anticache", "this option is not part of this version"),
    ("anticomp", "this option is not part of this version"),
    (
        "ignore-hosts",
        "this option is not part of this version; exempt addresses with 'ringtap redirect bypass add'",
    ),
    ("allow-hosts", "this option is not part of this version"),
    ("tcp-hosts", "this option is not part of this version"),
    ("map-local", "this option is not part of this version"),
    ("map-remote", "this option is not part of this version"),
    ("modify-body", "this option is not part of this version"),
    ("modify-headers", "this option is not part of this version"),
    ("client-replay", "replay is not part of this version"),
    ("server-replay", "replay is not part of this version"),
    ("proxyauth", "this option is not part of this version"),
    ("certs", "this option is not part of this version"),
    ("transparent", "use --mode transparent"),
    ("reverse", "use --mode reverse:SPEC"),
    ("upstream", "mode upstream is not part of this version"),
    ("cadir", "use --set confdir=DIR"),
    ("port", "use --listen-port (-p)"),
    ("insecure", "use --ssl-insecure (-k)"),
    ("read-flows", "use --rfile (-r)"),
    ("wfile", "use --save-stream-file (-w)"),
];

/// The command's flags, made from the option table.
pub(super) fn command() -> Command {
    let mut command = Command::new("dump")
        .about("Intercept traffic, print flows as they complete, record them; or read a recording back")
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("OPTION[=VALUE]")
                .action(ArgAction::Append)
                .help("Set an option by name; may be repeated ('--options' lists them)"),
        )
        .arg(Arg::new("config").long("config").value_name("FILE").help("Read options from this TOML file"))
        .arg(
            Arg::new("options")
                .long("options")
                .action(ArgAction::SetTrue)
                .help("Print all options with their values"),
        )
        .arg(
            Arg::new("quiet")
                .short('q')
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("Print no flows, log only errors"),
        )
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::SetTrue)
                .help("Print headers of flows, log everything"),
        )
        .arg(Arg::new("filter").value_name("FILTER").num_args(0..).help(
            "Print, record and read only flows that match: '~m POST & ~u login' (docs/filters.md); sets \
             dumper_filter, save_stream_filter and readfile_filter",
        ));
    for option in OPTIONS {
        for arg in args_of(option) {
            command = command.arg(arg);
        }
    }
    for (name, _) in NOT_HERE {
        let arg = Arg::new(format!("not-here-{name}")).long(*name).num_args(0..=1).hide(true);
        command = command.arg(arg.action(ArgAction::Append));
    }
    command
}

fn args_of(option: &'static OptionSpec) -> Vec<Arg> {
    let Some((long, short)) = option.flag else { return Vec::new() };
    let mut arg = Arg::new(option.name).long(long).help(help_of(option));
    if let Some(short) = short {
        arg = arg.short(short);
    }
    if option.shape != Shape::Bool {
        let name = match option.shape {
            Shape::Int(..) => "N",
            Shape::Size | Shape::OptSize => "SIZE",
            _ => "VALUE",
        };
        return vec![arg.value_name(name).action(ArgAction::Append)];
    }
    let on = arg.action(ArgAction::SetTrue);
    let mut off =
        Arg::new(format!("no-{}", option.name)).long(format!("no-{long}")).action(ArgAction::SetTrue);
    off = match option.name {
        "server" => off.short('n').help("Start no listeners: only read files"),
        _ => off.hide(true),
    };
    vec![if option.name == "server" { on.hide(true) } else { on }, off]
}

fn help_of(option: &OptionSpec) -> String {
    match option.default {
        "" => option.help.to_owned(),
        default => format!("{} [default: {default}]", option.help),
    }
}

/// Does it.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let typed = match typed(matches) {
        Ok(typed) => typed,
        Err(error) => return fail(&error.to_string()),
    };
    if is_set(matches, "options") {
        print!("{}", typed.describe());
        return ExitCode::SUCCESS;
    }
    let config = match Config::of(&typed) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string()),
    };
    let level = if is_set(matches, "quiet") { LogLevel::Error } else { config.verbosity };
    log::start(level);
    let code = match &config.rfile {
        Some(path) => read_back(path, &config),
        None if !config.server => fail("nothing to do: --no-server (-n) needs a file to read (-r FILE)"),
        None => intercept(config),
    };
    log::flush();
    code
}

fn intercept(config: Config) -> ExitCode {
    let show = (config.flow_detail > 0).then(|| {
        let mut print = printer(&config);
        Box::new(move |flow: &Flow| print(flow)) as engine::Show
    });
    match engine::run(config, Vec::new(), show) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::flush();
            eprintln!("ringtap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints flows to standard output as the configuration asks.
fn printer(config: &Config) -> impl FnMut(&Flow) -> io::Result<()> + Send + use<> {
    let color = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let out = Box::new(io::BufWriter::new(io::stdout()));
    let mut dumper = Dumper::new(out, config.flow_detail, color, config.showhost);
    let filter = config.dumper_filter.clone();
    move |flow| if matches(filter.as_ref(), flow) { dumper.flow(flow) } else { Ok(()) }
}

/// No filter lets everything through.
fn matches(filter: Option<&Filter>, flow: &Flow) -> bool {
    filter.is_none_or(|filter| filter.matches(flow))
}

fn fail(reason: &str) -> ExitCode {
    engine::refuse_takeover(reason);
    eprintln!("ringtap: {reason}");
    ExitCode::from(USAGE)
}

/// Defaults, then the file, then flags and `--set`.
fn typed(matches: &ArgMatches) -> Result<Typed, ConfigError> {
    for (name, instead) in NOT_HERE {
        if matches.value_source(&format!("not-here-{name}")).is_some() {
            return Err(ConfigError::Conflict(format!("--{name}: {instead}")));
        }
    }
    let mut typed = Typed::default();
    if let Some(path) = matches.get_one::<String>("config") {
        typed.read_file(path.as_ref())?;
    }
    if is_set(matches, "quiet") {
        typed.set("flow_detail=0", Source::CommandLine)?;
    }
    if is_set(matches, "verbose") {
        typed.set("flow_detail=2", Source::CommandLine)?;
        typed.set("termlog_verbosity=debug", Source::CommandLine)?;
    }
    for option in OPTIONS.iter().filter(|option| option.flag.is_some()) {
        if option.shape == Shape::Bool {
            if is_set(matches, option.name) {
                typed.set_option(option, Some("true"), Source::CommandLine)?;
            }
            if is_set(matches, &format!("no-{}", option.name)) {
                typed.set_option(option, Some("false"), Source::CommandLine)?;
            }
            continue;
        }
        for value in matches.get_many::<String>(option.name).into_iter().flatten() {
            typed.set_option(option, Some(value), Source::CommandLine)?;
        }
    }
    if let Some(words) = matches.get_many::<String>("filter") {
        let expression = words.map(String::as_str).collect::<Vec<_>>().join(" ");
        Filter::parse(&expression).map_err(|error| ConfigError::Conflict(format!("filter: {error}")))?;
        for name in ["dumper_filter", "save_stream_filter", "readfile_filter"] {
            typed.set(&format!("{name}={expression}"), Source::CommandLine)?;
        }
    }
    for assignment in matches.get_many::<String>("set").into_iter().flatten() {
        typed.set(assignment, Source::CommandLine)?;
    }
    Ok(typed)
}

/// Prints a recording, and records it again where that is asked for. What is intact is shown; damage ends it with
/// the place.
fn read_back(path: &str, config: &Config) -> ExitCode {
    let input: Box<dyn Read> = match path {
        "-" => Box::new(io::stdin().lock()),
        _ => match File::open(path) {
            Ok(file) => Box::new(BufReader::with_capacity(1 << 18, file)),
            Err(error) => return fail(&format!("option 'rfile': {path}: {error}")),
        },
    };
    let mut copy = match config.save_stream_file.as_deref().map(|copy| open_copy(path, copy)).transpose() {
        Ok(copy) => copy,
        Err(reason) => return fail(&reason),
    };
    let read = copy_and_print(input, &mut copy, config);
    let written = copy.map_or(Ok(()), |mut copy| copy.flush());
    match (read, written) {
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
        (Err(reason), _) => {
            eprintln!("ringtap: {path}: {reason}");
            ExitCode::FAILURE
        }
        (Ok(()), Err(error)) => {
            eprintln!("ringtap: option 'save_stream_file': {error}");
            ExitCode::FAILURE
        }
    }
}

/// The recording that flows are copied to: not the one they come from.
fn open_copy(from: &str, to: &str) -> Result<RecorderFile, String> {
    let to_path = to.strip_prefix('+').unwrap_or(to);
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    if let (Ok(a), Ok(b)) = (std::fs::metadata(from), std::fs::metadata(to_path))
        && same(a, b)
    {
        return Err(format!("options 'rfile' and 'save_stream_file' name the same file: {to_path}"));
    }
    RecorderFile::open(to).map_err(|error| format!("option 'save_stream_file': {error}"))
}

fn copy_and_print(
    input: Box<dyn Read>,
    copy: &mut Option<RecorderFile>,
    config: &Config,
) -> Result<(), String> {
    let mut print = printer(config);
    let mut is_read = true;
    for flow in FlowReader::new(input) {
        let flow = flow.map_err(|error| error.to_string())?;
        if !matches(config.readfile_filter.as_ref(), &flow) {
            continue;
        }
        if let Some(copy) = copy
            && matches(config.save_stream_filter.as_ref(), &flow)
        {
            copy.append(&flow).map_err(|error| format!("option 'save_stream_file': {error}"))?;
        }
        // a reader such as `head` that has seen enough is no failure, and the copy goes on
        is_read = is_read && print(&flow).is_ok();
        if !is_read && copy.is_none() {
            break;
        }
    }
    Ok(())
}
