//! Cookies (RFC 6265) as they come: what is malformed is kept, quoted values (RFC 2109) and several cookies in
//! one `Set-Cookie`, separated by commas, are understood.

use super::{MultiDict, date};

/// One cookie that a response sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetCookie {
    /// Its name.
    pub name: String,
    /// Its value; `None` if there was not even a `=`.
    pub value: Option<String>,
    /// Attributes as written, in order; `None` for those without a value, such as `Secure`.
    pub attributes: Vec<(String, Option<String>)>,
}

impl SetCookie {
    /// A cookie without attributes.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()), attributes: Vec::new() }
    }

    /// The attribute of that name, in any case: the last one counts. `Some(None)` is one without a value.
    pub fn attribute(&self, name: &str) -> Option<Option<&str>> {
        let is = |(key, _): &&(String, Option<String>)| key.eq_ignore_ascii_case(name);
        self.attributes.iter().rfind(is).map(|(_, value)| value.as_deref())
    }

    /// Gives the attribute this value, in its first place or at the end.
    pub fn set_attribute(&mut self, name: &str, value: Option<&str>) {
        let mut place = self.attributes.iter().position(|(key, _)| key.eq_ignore_ascii_case(name));
        let written = place.map_or_else(|| name.to_owned(), |at| self.attributes[at].0.clone());
        self.remove_attribute(name);
        let place = place.take().map_or(self.attributes.len(), |at| at.min(self.attributes.len()));
        self.attributes.insert(place, (written, value.map(str::to_owned)));
    }

    /// Drops the attribute.
    pub fn remove_attribute(&mut self, name: &str) {
        self.attributes.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// When it expires, Unix seconds: by `Expires`, else by `Max-Age` counted from `now`.
    pub fn expires_at(&self, now: f64) -> Option<f64> {
        if let Some(expires) = self.attribute("expires") {
            return expires.and_then(date::parse).map(|unix| unix as f64);
        }
        let age: i64 = self.attribute("max-age")??.trim().parse().ok()?;
        Some(now + age as f64)
    }

    /// It has expired.
    pub fn is_expired(&self, now: f64) -> bool {
        self.expires_at(now).is_some_and(|expires| expires <= now)
    }
}

/// Reads a header from left to right.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn at(&self, mark: char) -> bool {
        self.text[self.at..].starts_with(mark)
    }

    /// Past one character, if there is one.
    fn skip(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    fn done(&self) -> bool {
        self.at >= self.text.len()
    }

    fn until(&mut self, marks: &[char]) -> &'a str {
        let rest = &self.text[self.at..];
        let found = &rest[..rest.find(marks).unwrap_or(rest.len())];
        self.at += found.len();
        found
    }

    /// A value, quoted or up to one of the marks.
    fn value(&mut self, marks: &[char]) -> String {
        if !self.at('"') {
            return self.until(marks).to_owned();
        }
        self.skip();
        let mut value = String::new();
        let mut escaped = false;
        while let Some(c) = self.text[self.at..].chars().next() {
            self.at += c.len_utf8();
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '"' => break,
                '\\' => escaped = true,
                _ => value.push(c),
            }
        }
        value
    }
}

/// The pairs of one `Cookie` field.
pub fn parse_cookie(text: &str) -> Vec<(String, String)> {
    let mut reader = Reader { text, at: 0 };
    let mut pairs = Vec::new();
    while !reader.done() {
        let name = reader.until(&[';', '=']).trim_start().to_owned();
        let mut value = String::new();
        if reader.at('=') {
            reader.skip();
            value = reader.value(&[';']);
        }
        if !name.is_empty() || !value.is_empty() {
            pairs.push((name, value));
        }
        reader.skip();
    }
    pairs
}

/// Pairs as one `Cookie` field.
pub fn format_cookie(dict: &MultiDict) -> String {
    let pair = |(name, value): (_, std::borrow::Cow<'_, str>)| format!("{name}={}", quoted(&value));
    dict.items().map(pair).collect::<Vec<_>>().join("; ")
}

/// The cookies of one `Set-Cookie` field.
pub fn parse_set_cookie(text: &str) -> Vec<SetCookie> {
    let mut reader = Reader { text, at: 0 };
    let mut cookies = Vec::new();
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    while !reader.done() {
        let name = reader.until(&[';', '=', ',']).trim_start().to_owned();
        if reader.at('=') {
            reader.skip();
            let mut value = reader.value(&[';', ',']);
            // the comma in a date begins no new cookie
            if name.eq_ignore_ascii_case("expires") && value.len() <= 3 && reader.at(',') {
                reader.skip();
                value = format!("{value},{}", reader.value(&[';', ',']));
            }
            pairs.push((name, Some(value)));
        } else if !name.is_empty() {
            pairs.push((name, None));
        }
        if reader.at(',') {
            cookies.push(std::mem::take(&mut pairs));
        }
        reader.skip();
    }
    cookies.push(pairs);
    let cookie = |pairs: Vec<(String, Option<String>)>| {
        let mut pairs = pairs.into_iter();
        let (name, value) = pairs.next()?;
        Some(SetCookie { name, value, attributes: pairs.collect() })
    };
    cookies.into_iter().filter_map(cookie).collect()
}

/// A cookie as one `Set-Cookie` field.
pub fn format_set_cookie(cookie: &SetCookie) -> String {
    let mut out = pair(&cookie.name, cookie.value.as_deref());
    for (name, value) in &cookie.attributes {
        out.push_str("; ");
        out.push_str(&pair(name, value.as_deref()));
    }
    out
}

fn pair(name: &str, value: Option<&str>) -> String {
    let plain = name.eq_ignore_ascii_case("expires") || name.eq_ignore_ascii_case("path");
    match value {
        None => name.to_owned(),
        Some(value) if plain => format!("{name}={value}"),
        Some(value) => format!("{name}={}", quoted(value)),
    }
}

fn quoted(value: &str) -> String {
    let is_special = |c: char| matches!(c, '"' | ',' | ';' | '\\') || !('\x21'..='\x7e').contains(&c);
    if !value.contains(is_special) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A `Set-Cookie` field whose dates are `delta` seconds later; dates that cannot be read are dropped. A field
/// with a cookie that has no name or no value is none of ours to change: nothing.
pub(super) fn refresh_set_cookie(text: &str, delta: f64) -> Option<String> {
    let mut cookies = parse_set_cookie(text);
    for cookie in &mut cookies {
        if cookie.name.is_empty() || cookie.value.as_deref().unwrap_or_default().is_empty() {
            return None;
        }
        if let Some(expires) = cookie.attribute("expires") {
            match expires.and_then(date::parse) {
                Some(unix) => {
                    let later = date::format(shifted(unix, delta));
                    cookie.set_attribute("expires", Some(&later));
                }
                None => cookie.remove_attribute("expires"),
            }
        }
    }
    Some(cookies.iter().map(format_set_cookie).collect::<Vec<_>>().join(", "))
}

/// Whole seconds later.
#[expect(clippy::cast_possible_truncation, reason = "a float that large saturates")]
pub(super) fn shifted(unix: i64, delta: f64) -> i64 {
    // years of four digits only
    ((unix as f64 + delta).floor() as i64).clamp(-62_135_596_800, 253_402_300_799)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse_cookie(text)
    }

    #[test]
    fn cookie_fields_come_apart() {
        let table: [(&str, &[(&str, &str)]); 9] = [
            ("", &[]),
            ("one=uno", &[("one", "uno")]),
            ("one=uno; two=due", &[("one", "uno"), ("two", "due")]),
            ("one; two=due", &[("one", ""), ("two", "due")]),
            ("one=\"uno\"; two=\"d;\\\"e\"", &[("one", "uno"), ("two", "d;\"e")]),
            ("=x; ;y", &[("", "x"), ("y", "")]),
            ("a=b=c;d", &[("a", "b=c"), ("d", "")]),
            ("a=\"open", &[("a", "open")]),
            ("ü=ö;", &[("ü", "ö")]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn set_cookie_fields_come_apart_and_together() {
        let text = "SID=a/b; Path=/; Secure; Expires=Wed, 21 Oct 2015 07:28:00 GMT, two=\"2;\"; HttpOnly";
        let cookies = parse_set_cookie(text);
        assert_eq!(cookies.len(), 2);
        assert_eq!(cookies[0].attribute("EXPIRES"), Some(Some("Wed, 21 Oct 2015 07:28:00 GMT")));
        assert_eq!(cookies[0].attribute("secure"), Some(None));
        assert_eq!(cookies[0].attribute("domain"), None);
        assert_eq!((cookies[1].name.as_str(), cookies[1].value.as_deref()), ("two", Some("2;")));
        assert_eq!(cookies.iter().map(format_set_cookie).collect::<Vec<_>>().join(", "), text);
        assert_eq!(parse_set_cookie(""), []);
        assert_eq!(parse_set_cookie("bare")[0].value, None);
        assert_eq!(parse_set_cookie(",,;,").len(), 0);
    }

    #[test]
    fn cookies_expire() {
        let at = |text: &str| parse_set_cookie(text)[0].expires_at(1000.0);
        assert_eq!(at("a=b; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Max-Age=5"), Some(10.0));
        assert_eq!(at("a=b; max-age=5"), Some(1005.0));
        assert_eq!(at("a=b; max-age=x"), None);
        assert!(parse_set_cookie("a=b; max-age=0")[0].is_expired(1000.0));
        assert!(!parse_set_cookie("a=b")[0].is_expired(1000.0));
    }

    #[test]
    fn dates_of_cookies_are_shifted() {
        let refreshed = |text| refresh_set_cookie(text, 3600.0);
        assert_eq!(
            refreshed("a=b; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Secure").as_deref(),
            Some("a=b; Expires=Thu, 01 Jan 1970 01:00:10 GMT; Secure")
        );
        assert_eq!(refreshed("a=b; Expires=never; Secure").as_deref(), Some("a=b; Secure"));
        assert_eq!(refreshed("=b"), None);
    }

    #[test]
    fn any_text_comes_apart() {
        let mut state = 3u64;
        let alphabet: Vec<char> = "a=;,\" \\xexpires=Wü".chars().collect();
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            let _ = (parse_cookie(&text), parse_set_cookie(&text));
        }
    }
}
