//! Sizes as people write them.

/// Reads `512`, `64k`, `3m`, `1g` (powers of 1024, as mitmproxy does; case does not matter).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => {
            let factor = match unit.to_ascii_lowercase() {
                'b' => 1,
                'k' => 1 << 10,
                'm' => 1 << 20,
                'g' => 1 << 30,
                't' => 1 << 40,
                _ => return Err(format!("'{unit}' is no unit: b, k, m, g and t are")),
            };
            (&text[..at], factor)
        }
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "not a size like 512, 64k, 3m or 1g".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// Writes a size as [`parse_size`] reads it, rounded to one decimal for people.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    for (unit, size) in UNITS {
        if bytes >= size {
            let tenths = bytes.saturating_mul(10) / size;
            return match tenths % 10 {
                0 => format!("{}{unit}", tenths / 10),
                rest => format!("{}.{rest}{unit}", tenths / 10),
            };
        }
    }
    format!("{bytes}b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("0", 0), ("512", 512), ("1k", 1024), ("3M", 3 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "1x", "-1", "1.5m", "99999999999t"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!(format_size(1024), "1k");
        assert_eq!(format_size(1536), "1.5k");
        assert_eq!(format_size(10), "10b");
    }
}
