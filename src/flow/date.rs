//! Dates of HTTP (RFC 9110 §5.6.7) and of cookies, read leniently and written as IMF-fixdate.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: i64 = 86_400;

/// Unix seconds of a date: IMF-fixdate, RFC 850's, asctime's, and what resembles them (dashes between, a zone in
/// digits). A date without a zone is in UTC.
pub fn parse(text: &str) -> Option<i64> {
    let mut day = None;
    let mut month = None;
    let mut year = None;
    let mut time = None;
    let mut zone = 0;
    for word in text.split([' ', ',', '\t']).flat_map(split_dashes).filter(|word| !word.is_empty()) {
        if word.contains(':') {
            time = Some(time_of_day(word)?);
        } else if let Some(offset) = zone_of(word).filter(|_| time.is_some()) {
            zone = offset;
        } else if let Some(index) = month_of(word) {
            month = month.or(Some(index));
        } else if let Ok(number) = word.parse::<i64>() {
            match day {
                None => day = Some(number),
                Some(_) => year = year.or(Some(full_year(number, word.len()))),
            }
        }
    }
    let (day, month, year) = (day?, month?, year?);
    if !(1..=31).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    Some(days_of(year, month, day) * DAY + time.unwrap_or(0) - zone)
}

/// `21-Oct-15` is three words; `-0700` is one.
fn split_dashes(word: &str) -> impl Iterator<Item = &str> {
    let is_zone = word.starts_with(['-', '+']);
    word.split(move |c| c == '-' && !is_zone)
}

fn time_of_day(word: &str) -> Option<i64> {
    let mut parts = word.split(':').map(|part| part.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    (hour < 24 && minute < 60 && parts.next().is_none()).then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds east of Greenwich.
fn zone_of(word: &str) -> Option<i64> {
    let named = [
        ("GMT", 0),
        ("UTC", 0),
        ("UT", 0),
        ("Z", 0),
        ("EST", -5),
        ("EDT", -4),
        ("CST", -6),
        ("CDT", -5),
        ("MST", -7),
        ("MDT", -6),
        ("PST", -8),
        ("PDT", -7),
    ];
    if let Some((_, hours)) = named.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) {
        return Some(hours * 3600);
    }
    let (sign, digits) = match word.as_bytes().first()? {
        b'+' => (1, &word[1..]),
        b'-' => (-1, &word[1..]),
        _ => return None,
    };
    let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    Some(sign * (number / 100 * 3600 + number % 100 * 60))
}

fn month_of(word: &str) -> Option<i64> {
    let index =
        MONTHS.iter().position(|name| word.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
    i64::try_from(index + 1).ok()
}

/// Two digits mean 1969 to 2068, as everywhere in mail and cookies.
fn full_year(number: i64, digits: usize) -> i64 {
    match number {
        _ if digits > 2 => number,
        0..=68 => number + 2000,
        _ => number + 1900,
    }
}

/// Days from 1 January 1970 to a day of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // years begin in March: the leap day is the last one
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date as HTTP writes it: `Wed, 21 Oct 2015 07:28:00 GMT`.
pub fn format(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = (march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month <= 1);
    let name = |names: &[&'static str], index: i64| names[usize::try_from(index).unwrap_or_default()];
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, (days + 3).rem_euclid(7)),
        name(&MONTHS, month),
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_date_is_the_same_moment() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "6 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 10:49:37 +0200",
            "Sun, 06 Nov 1994 03:49:37 EST",
            "sun, 06 nov 1994 01:49:37 -0700",
        ] {
            assert_eq!(parse(text), Some(784_111_777), "{text}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn dates_come_back_as_they_were() {
        for unix in (-5_000_000_000..=250_000_000_000).step_by(86_399 * 991) {
            assert_eq!(parse(&format(unix)), Some(unix), "{}", format(unix));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "0", "-1", "Thu, 99 Foo 2020", "Sun, 06 Nov 1994 25:00:00 GMT", "1 2 3 4:5", "::", "06 Nov"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
