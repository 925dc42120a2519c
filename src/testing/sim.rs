//! Seeded conversations: other pieces, other silences, other moments of leaving each time; what must hold always
//! holds: bytes come whole or the flow has an error, every flow is delivered once, no buffer stays out.

use super::Playbook;
use crate::flow::BodyStream;
use crate::hooks::Hook;

const ORIGIN: &str = "93.184.216.34:80";

/// A small generator (xorshift): a seed says the whole story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("below a usize")
    }

    fn pieces(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((1 + self.below(60)).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = left;
        }
        pieces
    }

    /// A message with a body, in one framing or the other.
    fn message(&mut self, head: &str) -> Vec<u8> {
        let body = "x".repeat(self.below(300));
        match self.below(2) {
            0 => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into(),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n12c\r\n{body:0>300}\r\n0\r\n\r\n").into(),
        }
    }
}

/// Some exchanges over one connection; perhaps somebody leaves in the middle.
fn story(seed: u64) -> Playbook {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut book = Playbook::transparent(ORIGIN).loosely().only_as_written();
    // bodies pass by themselves, are collected, or are streamed past somebody who may change their trailers
    let plan = dice.below(3);
    if plan > 0 {
        book = book.edits_http(Hook::Response, |_| {}).edits_http(Hook::Request, |_| {});
    }
    if plan == 2 {
        book = book
            .edits_http(Hook::Requestheaders, |flow| flow.request.stream = BodyStream::Pass)
            .edits_http(Hook::Responseheaders, |flow| {
                if let Some(response) = &mut flow.response {
                    response.stream = BodyStream::Pass;
                }
            });
    }
    for exchange in 0..1 + dice.below(3) {
        let request = dice.message("POST / HTTP/1.1\r\nHost: example.com\r\n");
        let pieces = dice.pieces(&request);
        let leaves = if dice.below(8) == 0 { dice.below(pieces.len()) } else { usize::MAX };
        for (number, piece) in pieces.iter().enumerate() {
            if number == leaves {
                return book.client_resets().passes(1_000).whatever_came();
            }
            book = book.client_sends(piece).passes(dice.below(200) as u64);
        }
        if exchange == 0 {
            book = book.connects(ORIGIN);
        }
        book = book.server_gets(&request);
        let response = dice.message("HTTP/1.1 200 OK\r\n");
        let pieces = dice.pieces(&response);
        let leaves = if dice.below(8) == 0 { dice.below(pieces.len()) } else { usize::MAX };
        for (number, piece) in pieces.iter().enumerate() {
            if number == leaves {
                let book = if dice.below(2) == 0 { book.server_resets() } else { book.client_resets() };
                let book = book.passes(1_000).whatever_came();
                return if exchange == 0 {
                    book.http_flow(|flow| assert!(flow.meta.error.is_some()))
                } else {
                    book
                };
            }
            book = book.server_sends(piece).passes(dice.below(200) as u64);
        }
        book = book.client_gets(&response);
    }
    book.client_closes().client_sees_end().server_sees_end()
}

#[test]
fn whatever_the_seed_nothing_is_lost_or_held() {
    for seed in 1..=1000 {
        let played = std::panic::catch_unwind(|| story(seed).play());
        assert!(played.is_ok(), "seed {seed}");
    }
}
