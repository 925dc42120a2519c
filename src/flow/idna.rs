//! International host names (RFC 5891) through punycode (RFC 3492). Names are put in lower case and not
//! normalised further: what a client sent is what is shown.

const PREFIX: &str = "xn--";
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const BIAS: u32 = 72;
const FIRST: u32 = 128;
/// Longer labels are left as they are: a name has at most 63 bytes a label.
const LABEL_MAX: usize = 256;

/// The name with its international labels encoded; none if one cannot be.
pub(super) fn to_ascii(name: &str) -> Option<String> {
    if name.is_ascii() {
        return Some(name.to_owned());
    }
    let mut labels = Vec::new();
    for label in name.to_lowercase().split(['.', '\u{3002}']) {
        labels.push(if label.is_ascii() { label.to_owned() } else { PREFIX.to_owned() + &encode(label)? });
    }
    Some(labels.join("."))
}

/// The name with its encoded labels as people write them; labels that cannot be decoded stay.
pub(super) fn to_unicode(name: &str) -> String {
    let label = |label: &str| {
        let encoded = label.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX));
        encoded
            .and_then(|_| decode(&label[PREFIX.len()..]))
            .filter(|label| !label.is_empty())
            .unwrap_or_else(|| label.to_owned())
    };
    name.split('.').map(label).collect::<Vec<_>>().join(".")
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

fn threshold(k: u32, bias: u32) -> u32 {
    k.saturating_sub(bias).clamp(T_MIN, T_MAX)
}

fn encode(label: &str) -> Option<String> {
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    if points.len() > LABEL_MAX {
        return None;
    }
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias) = (FIRST, 0u32, BIAS);
    while usize::try_from(handled).ok()? < points.len() {
        let next = points.iter().copied().filter(|point| *point >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for point in &points {
            if *point < n {
                delta = delta.checked_add(1)?;
            }
            if *point == n {
                let (mut q, mut k) = (delta, BASE);
                loop {
                    let t = threshold(k, bias);
                    if q < t {
                        break;
                    }
                    out.push(digit(t + (q - t) % (BASE - t))?);
                    q = (q - t) / (BASE - t);
                    k += BASE;
                }
                out.push(digit(q)?);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(out)
}

/// Digits are a to z, then 0 to 9.
fn digit(value: u32) -> Option<char> {
    let byte = u8::try_from(value).ok()?;
    Some(char::from(if byte < 26 { b'a' + byte } else { b'0' + byte - 26 }))
}

fn decode(encoded: &str) -> Option<String> {
    if encoded.len() > LABEL_MAX || !encoded.is_ascii() {
        return None;
    }
    let (basic, rest) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut points: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (FIRST, 0u32, BIAS);
    let mut digits = rest.bytes();
    while digits.len() > 0 {
        let (start, mut weight, mut k) = (i, 1u32, BASE);
        loop {
            let value = match digits.next()?.to_ascii_lowercase() {
                letter @ b'a'..=b'z' => u32::from(letter - b'a'),
                number @ b'0'..=b'9' => u32::from(number - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(value.checked_mul(weight)?)?;
            let t = threshold(k, bias);
            if value < t {
                break;
            }
            weight = weight.checked_mul(BASE - t)?;
            k += BASE;
        }
        let count = u32::try_from(points.len()).ok()? + 1;
        bias = adapt(i - start, count, start == 0);
        n = n.checked_add(i / count)?;
        i %= count;
        points.insert(usize::try_from(i).ok()?, char::from_u32(n)?);
        i += 1;
    }
    Some(points.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let table = [
            ("bücher.example", "xn--bcher-kva.example"),
            ("münchen.de", "xn--mnchen-3ya.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("правда.рф", "xn--80aafi6cg.xn--p1ai"),
            ("☃.net", "xn--n3h.net"),
            ("plain.example", "plain.example"),
        ];
        for (unicode, ascii) in table {
            assert_eq!(to_ascii(unicode).as_deref(), Some(ascii));
            assert_eq!(to_unicode(ascii), unicode);
        }
    }

    #[test]
    fn labels_that_are_no_punycode_stay() {
        for name in ["xn--", "xn--ü", "xn--99999999999", "xn--a-!", "xn--zzzzzzzzzzzzzzzzzzzz", "xn"] {
            let _ = to_unicode(name);
        }
        assert_eq!(to_unicode("xn--a!b.example"), "xn--a!b.example");
        assert_eq!(to_unicode(&format!("xn--{}", "a".repeat(1000))).len(), 1004);
    }
}
