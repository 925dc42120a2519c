//! What was written, option by option.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::{self, OPTIONS, OptionSpec, Shape};
use super::{ConfigError, parse_size};

/// Where a value was written; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The table.
    Default,
    /// The configuration file.
    File,
    /// A flag or `--set`.
    CommandLine,
}

/// Values as written, each checked against its option.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    values: BTreeMap<&'static str, (Source, Vec<String>)>,
}

impl Typed {
    /// Takes one `name` or `name=value`.
    ///
    /// # Errors
    /// Unknown name, or a value that does not fit.
    pub fn set(&mut self, assignment: &str, source: Source) -> Result<(), ConfigError> {
        let (name, value) = match assignment.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (assignment, None),
        };
        let Some(option) = options::find(name) else {
            return Err(ConfigError::Unknown {
                name: name.to_owned(),
                hint: options::hint_for_unknown(name),
            });
        };
        self.set_option(option, value, source)
    }

    /// Takes a value for an option; none: true for a bool, nothing for what may be nothing.
    ///
    /// # Errors
    /// The value does not fit.
    pub fn set_option(
        &mut self,
        option: &'static OptionSpec,
        value: Option<&str>,
        source: Source,
    ) -> Result<(), ConfigError> {
        let fail = |reason: String| ConfigError::Value {
            name: option.name,
            value: value.unwrap_or_default().to_owned(),
            reason,
            help: option.help,
        };
        let items: Vec<String> = match (option.shape, value) {
            (Shape::Bool, None) => vec!["true".into()],
            (Shape::Bool, Some("toggle")) => vec![(!self.flag(option.name)).to_string()],
            (Shape::OptStr | Shape::OptSize | Shape::Str | Shape::Seq { .. }, None | Some("")) => Vec::new(),
            (_, None) => return Err(fail("a value is needed".into())),
            (Shape::Seq { split: true }, Some(value)) => {
                value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
            (_, Some(value)) => vec![value.to_owned()],
        };
        for item in &items {
            check(option.shape, item).map_err(fail)?;
        }
        let is_list = matches!(option.shape, Shape::Seq { .. });
        match self.values.get_mut(option.name) {
            Some((held, list)) if is_list && *held == source && !items.is_empty() => list.extend(items),
            _ => {
                self.values.insert(option.name, (source, items));
            }
        }
        Ok(())
    }

    /// Reads a TOML file of options; unknown keys are errors.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let fail = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| fail(e.to_string()))?;
        for (name, value) in table {
            let items = match value {
                toml::Value::Array(items) => items,
                one => vec![one],
            };
            for item in items {
                let text = match item {
                    toml::Value::String(text) => text,
                    toml::Value::Table(_) | toml::Value::Array(_) => {
                        return Err(fail(format!("option '{name}' is no table")));
                    }
                    other => other.to_string(),
                };
                self.set(&format!("{name}={text}"), Source::File).map_err(|e| fail(e.to_string()))?;
            }
        }
        Ok(())
    }

    /// Where the option's value was written.
    pub fn source(&self, name: &str) -> Source {
        self.values.get(name).map_or(Source::Default, |(source, _)| *source)
    }

    /// The option's items: none, one, or a list's.
    pub fn items(&self, name: &str) -> Vec<String> {
        match self.values.get(name) {
            Some((_, items)) => items.clone(),
            None => options::find(name)
                .map(|option| option.default)
                .filter(|default| !default.is_empty())
                .map(|default| vec![default.to_owned()])
                .unwrap_or_default(),
        }
    }

    /// The option's one value as text, if it has one.
    pub fn text(&self, name: &str) -> Option<String> {
        self.items(name).into_iter().next_back()
    }

    /// A bool.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text == "true")
    }

    /// A whole number; values were checked when they were taken.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// A size in bytes, if the option has one.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| parse_size(&text).ok())
    }

    /// Every option with its present value, as `--options` shows them.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        for option in OPTIONS {
            let items = self.items(option.name);
            let value = match option.shape {
                Shape::Seq { .. } => format!("{items:?}"),
                _ if items.is_empty() => "null".into(),
                Shape::Str | Shape::OptStr | Shape::Choice(_) => format!("{:?}", items.join("")),
                _ => items.join(""),
            };
            out.push_str(&format!("# {}\n{}: {}\n\n", option.help, option.name, value));
        }
        out
    }
}

fn check(shape: Shape, value: &str) -> Result<(), String> {
    match shape {
        Shape::Bool if !matches!(value, "true" | "false") => Err("true or false is needed".into()),
        Shape::Int(min, max) => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ => Err(format!("a whole number from {min} to {max} is needed")),
        },
        Shape::Size | Shape::OptSize => parse_size(value).map(drop),
        Shape::Choice(words) if !words.contains(&value) => {
            Err(format!("one of {} is needed", words.join(", ")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_option() {
        for option in OPTIONS {
            for item in Typed::default().items(option.name) {
                assert_eq!(check(option.shape, &item), Ok(()), "{}", option.name);
            }
        }
    }

    #[test]
    fn values_are_set_replaced_and_gathered() {
        let mut typed = Typed::default();
        for text in [
            "workers=2",
            "workers=3",
            "ssl_insecure",
            "mode=regular",
            "mode=transparent@1",
            "allow_clients=10.0.0.0/8, ::1",
        ] {
            typed.set(text, Source::CommandLine).expect(text);
        }
        assert_eq!(typed.number("workers"), 3);
        assert!(typed.flag("ssl_insecure"));
        assert_eq!(typed.items("mode"), ["regular", "transparent@1"]);
        assert_eq!(typed.items("allow_clients"), ["10.0.0.0/8", "::1"]);
        typed.set("ssl_insecure=toggle", Source::CommandLine).expect("a bool toggles");
        assert!(!typed.flag("ssl_insecure"));
        assert_eq!(typed.size("flow_body_max"), Some(1 << 20));
    }

    #[test]
    fn errors_name_the_option_and_show_its_help() {
        let mut typed = Typed::default();
        let table = [
            ("worker=1", "did you mean 'workers'"),
            ("workers=many", "a whole number from 0"),
            ("ssl_insecure=yes", "true or false"),
            ("flow_detail=9", "What is printed"),
            ("stream_large_bodies=1q", "no unit"),
            ("termlog_verbosity=loud", "one of error"),
            ("connect_timeout", "a value is needed"),
        ];
        for (text, part) in table {
            let error = typed.set(text, Source::CommandLine).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_and_the_command_line_wins() {
        let path = std::env::temp_dir().join(format!("ringtap-typed-{}.toml", std::process::id()));
        std::fs::write(&path, "workers = 2\nmode = [\"regular\", \"transparent@81\"]\nssl_insecure = true\n")
            .expect("temp");
        let mut typed = Typed::default();
        typed.read_file(&path).expect("understood");
        typed.set("mode=regular@9", Source::CommandLine).expect("fits");
        assert_eq!(typed.items("mode"), ["regular@9"]);
        assert_eq!(typed.number("workers"), 2);
        std::fs::write(&path, "wrokers = 2\n").expect("temp");
        let error = Typed::default().read_file(&path).expect_err("unknown").to_string();
        assert!(error.contains("did you mean 'workers'"), "{error}");
        std::fs::remove_file(&path).expect("temp");
    }
}
