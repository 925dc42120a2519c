//! Names of numbers: WebSocket close codes, and DNS names as the C library's `arpa/nameser.h` and, for 63 to 65,
//! RFC 8976 and RFC 9460 have them.

/// A WebSocket close code's name (RFC 6455 §7.4.1).
pub(super) fn close_code(code: u16) -> String {
    name(&CLOSE_CODES, code).map_or_else(|| format!("UNKNOWN_ERROR={code}"), str::to_owned)
}

/// A DNS record type's name.
pub(super) fn dns_type(kind: u16) -> String {
    name(&DNS_TYPES, kind).map_or_else(|| format!("TYPE({kind})"), str::to_owned)
}

/// A DNS operation code's name.
pub(super) fn dns_op_code(code: u8) -> String {
    name(&DNS_OP_CODES, code.into()).map_or_else(|| format!("OPCODE({code})"), str::to_owned)
}

/// A DNS response code's name.
pub(super) fn dns_response_code(code: u16) -> String {
    name(&DNS_RESPONSE_CODES, code).map_or_else(|| format!("RCODE({code})"), str::to_owned)
}

fn name(table: &[(u16, &'static str)], number: u16) -> Option<&'static str> {
    let index = table.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    Some(table[index].1)
}

const CLOSE_CODES: [(u16, &str); 14] = [
    (1000, "NORMAL_CLOSURE"),
    (1001, "GOING_AWAY"),
    (1002, "PROTOCOL_ERROR"),
    (1003, "UNSUPPORTED_DATA"),
    (1005, "NO_STATUS_RCVD"),
    (1006, "ABNORMAL_CLOSURE"),
    (1007, "INVALID_FRAME_PAYLOAD_DATA"),
    (1008, "POLICY_VIOLATION"),
    (1009, "MESSAGE_TOO_BIG"),
    (1010, "MANDATORY_EXT"),
    (1011, "INTERNAL_ERROR"),
    (1012, "SERVICE_RESTART"),
    (1013, "TRY_AGAIN_LATER"),
    (1015, "TLS_HANDSHAKE_FAILED"),
];

const DNS_TYPES: [(u16, &str); 49] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (18, "AFSDB"),
    (24, "SIG"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

const DNS_OP_CODES: [(u16, &str); 6] =
    [(0, "QUERY"), (1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE"), (6, "DSO")];

const DNS_RESPONSE_CODES: [(u16, &str); 12] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (11, "DSOTYPENI"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order() {
        for table in [&CLOSE_CODES[..], &DNS_TYPES, &DNS_OP_CODES, &DNS_RESPONSE_CODES] {
            assert!(table.is_sorted_by_key(|(number, _)| *number));
        }
        assert_eq!(close_code(4000), "UNKNOWN_ERROR=4000");
        assert_eq!(dns_type(65), "HTTPS");
        assert_eq!(dns_type(65280), "TYPE(65280)");
    }
}
