//! A small writer of DER (X.690), enough for a leaf certificate and the PEM around it.
//!
//! Contents are written first and their length is patched in afterwards, so that nothing is measured twice.

use std::fmt;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[number]` around other elements.
pub(super) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// `[number]` in place of a primitive element's own tag.
pub(super) const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// DER under construction.
pub(super) struct Der {
    bytes: Vec<u8>,
}

impl Der {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Elements that are DER already.
    pub(super) fn raw(&mut self, der: &[u8]) {
        self.bytes.extend_from_slice(der);
    }

    /// One element with these contents.
    pub(super) fn element(&mut self, tag: u8, contents: &[u8]) {
        self.nest(tag, |der| der.raw(contents));
    }

    /// One element whose contents `write` writes.
    pub(super) fn nest(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.bytes.push(tag);
        self.bytes.push(0);
        let start = self.bytes.len();
        write(self);
        let length = self.bytes.len() - start;
        if length < 0x80 {
            self.bytes[start - 1] = length as u8;
            return;
        }
        let big_endian = length.to_be_bytes();
        let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
        let digits = &big_endian[zeros..];
        self.bytes[start - 1] = 0x80 | digits.len() as u8;
        self.bytes.splice(start..start, digits.iter().copied());
    }

    /// A BIT STRING of whole octets.
    pub(super) fn bit_string(&mut self, octets: &[u8]) {
        self.nest(BIT_STRING, |der| {
            der.raw(&[0]);
            der.raw(octets);
        });
    }

    /// A validity's time: UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
    pub(super) fn time(&mut self, unix: i64) {
        let Civil { year, month, day, hour, minute, second } = Civil::from_unix(unix);
        if (1950..2050).contains(&year) {
            let text = format!("{:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z", year % 100);
            self.element(UTC_TIME, text.as_bytes());
        } else {
            let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
            self.element(GENERALIZED_TIME, text.as_bytes());
        }
    }
}

/// A moment in UTC as people write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Civil {
    /// The last second of the year 9999, the last that a certificate can name.
    pub(super) const MAX_UNIX: i64 = 253_402_300_799;

    /// Proleptic Gregorian date of unix seconds; out-of-range moments are brought to year 0 or 9999.
    pub(super) fn from_unix(unix: i64) -> Self {
        const YEAR_0: i64 = -62_167_219_200;
        let unix = unix.clamp(YEAR_0, Self::MAX_UNIX);
        let (days, second_of_day) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        // Years are counted from 1 March, so that the leap day is a year's last; 146,097 days make 400 years.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A PEM section (RFC 7468): 64 characters to a line.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let sextet = ALPHABET[(bits >> (18 - 6 * digit)) as usize & 0x3f];
                text.push(if digit <= group.len() { char::from(sextet) } else { '=' });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, header) in [
            (0, vec![0x04, 0x00]),
            (127, vec![0x04, 0x7f]),
            (128, vec![0x04, 0x81, 0x80]),
            (255, vec![0x04, 0x81, 0xff]),
            (256, vec![0x04, 0x82, 0x01, 0x00]),
            (65_536, vec![0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let mut der = Der::with_capacity(0);
            der.element(OCTET_STRING, &vec![7; length]);
            let bytes = der.finish();
            assert_eq!(&bytes[..header.len()], header);
            assert_eq!(bytes.len(), header.len() + length);
        }
    }

    #[test]
    fn long_elements_nest() {
        let mut der = Der::with_capacity(0);
        der.nest(SEQUENCE, |der| der.nest(SET, |der| der.element(OCTET_STRING, &[9; 200])));
        let bytes = der.finish();
        assert_eq!(&bytes[..9], [0x30, 0x81, 206, 0x31, 0x81, 203, 0x04, 0x81, 200]);
    }

    #[test]
    fn dates_are_right_for_every_day_of_eight_centuries() {
        let (mut year, mut month, mut day) = (1700, 1, 1);
        let mut unix = -8_520_336_000;
        while year < 2500 {
            let civil = Civil::from_unix(unix + 86_399);
            assert_eq!((civil.year, civil.month, civil.day), (year, month, day));
            assert_eq!((civil.hour, civil.minute, civil.second), (23, 59, 59));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            (year, month, day) = match (day == days, month == 12) {
                (false, _) => (year, month, day + 1),
                (true, false) => (year, month + 1, 1),
                (true, true) => (year + 1, 1, 1),
            };
            unix += 86_400;
        }
    }

    #[test]
    fn times_change_their_form_in_2050() {
        for (unix, tag, text) in [
            (0, UTC_TIME, "700101000000Z"),
            (2_524_607_999, UTC_TIME, "491231235959Z"),
            (2_524_608_000, GENERALIZED_TIME, "20500101000000Z"),
            (i64::MAX, GENERALIZED_TIME, "99991231235959Z"),
        ] {
            let mut der = Der::with_capacity(0);
            der.time(unix);
            let bytes = der.finish();
            assert_eq!((bytes[0], &bytes[2..]), (tag, text.as_bytes()));
        }
    }

    #[test]
    fn pem_reads_back_at_every_length() {
        for length in 0..150 {
            let der: Vec<u8> = (0..length).map(|i| (i * 37) as u8).collect();
            let text = pem("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            if length > 0 {
                assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
            }
        }
    }
}
