//! Prometheus' text format (0.0.4), read as strictly as its specification allows: what a scraper might forgive, this
//! does not.

use std::collections::{BTreeMap, HashSet};

/// Samples by name and labels: `name{a="b",c="d"}`, labels sorted.
pub(crate) struct Exposition {
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a page; says what is wrong with it by panicking.
    #[track_caller]
    pub(crate) fn read(text: &str) -> Exposition {
        match read(text) {
            Ok(samples) => Exposition { samples },
            Err(complaint) => panic!("{complaint}\n{text}"),
        }
    }

    /// One series, written as `name{a="b"}` with its labels sorted; 0 if it is not there.
    pub(crate) fn of(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// All series of a name, added up, whose labels contain `part`.
    pub(crate) fn sum(&self, name: &str, part: &str) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name) && series.contains(part);
        self.samples.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| *value).sum()
    }
}

fn read(text: &str) -> Result<BTreeMap<String, f64>, String> {
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut samples = BTreeMap::new();
    let mut described = HashSet::new();
    // the metric whose lines these are, and its type once that was said
    let mut now: Option<(String, Option<String>)> = None;
    for line in text.lines() {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap_or_default();
            if !described.insert(name.to_owned()) {
                return Err(wrong("a metric comes twice"));
            }
            now = Some((name.to_owned(), None));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("a type without a kind"))?;
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("no type"));
            }
            match &mut now {
                Some((described, before @ None)) if described == name => *before = Some(kind.to_owned()),
                _ => return Err(wrong("a type apart from its metric")),
            }
        } else {
            let (series, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
            let (metric, kind) = now.as_ref().ok_or_else(|| wrong("a sample of no metric"))?;
            let name = series.split('{').next().unwrap_or_default();
            let suffix =
                name.strip_prefix(metric.as_str()).ok_or_else(|| wrong("a sample of another metric"))?;
            let fits = match kind.as_deref() {
                Some("histogram") => ["_bucket", "_sum", "_count"].contains(&suffix),
                Some("counter") => suffix.is_empty() && value >= 0.0 && name.ends_with("_total"),
                Some(_) => suffix.is_empty(),
                None => false,
            };
            if !fits {
                return Err(wrong("a sample that does not fit its metric's type"));
            }
            if samples.insert(series, value).is_some() {
                return Err(wrong("a series comes twice"));
            }
        }
    }
    Ok(samples)
}

/// One line: the series with its labels sorted, and the value.
fn sample(line: &str) -> Option<(String, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    if !word(name) {
        return None;
    }
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !word(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(more) => inside = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        text if text.contains(' ') => return None,
        text => text.parse().ok().filter(|value: &f64| value.is_finite())?,
    };
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
    Some((series, value))
}

/// The text up to the closing quote, and what comes behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

#[test]
fn pages_that_are_wrong_are_seen() {
    let fine = "# HELP a_total x\n# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\n";
    let read_well = Exposition::read(fine);
    assert!((read_well.sum("a_total", "") - 7.0).abs() < 1e-9 && read_well.of("a_total{x=\"2\"}") > 3.9);
    for (what, broken) in [
        ("a series twice", fine.replace("x=\"2\"", "x=\"1\"")),
        ("no end", fine.trim_end().to_owned()),
        ("another metric's sample", format!("{fine}b_total 1\n")),
        ("no type", fine.replace("# TYPE a_total counter\n", "")),
        ("a wrong type", fine.replace(" counter", " number")),
        ("a metric twice", format!("{fine}{fine}")),
        ("no number", fine.replace(" 4\n", " four\n")),
        ("an open quote", fine.replace("\"2\"} 4", "\"2} 4")),
        ("a counter below zero", fine.replace(" 4\n", " -4\n")),
        ("a bad name", fine.replace("a_total{x=\"2\"}", "a-total{x=\"2\"}")),
    ] {
        assert!(read(&broken).is_err(), "{what}: {broken}");
    }
}
