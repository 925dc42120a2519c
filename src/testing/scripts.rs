//! Dialogues that tests play in every way and benchmarks time: the everyday ones.

use super::{ClientHandshake, Playbook, ServerHandshake};

const PLAIN: &str = "93.184.216.34:80";
const SECURE: &str = "93.184.216.34:443";

/// What a browser sends for a part of a page: some 600 bytes.
pub const BROWSER_REQUEST: &str = "GET /static/app/main.js?v=20240611 HTTP/1.1\r\nHost: example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0\r\nAccept: */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://example.com/articles/2024/06/an-article-with-a-name\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=all; seen=1718100000\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\
    If-None-Match: \"66682a00-400\"\r\nDNT: 1\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\r\n";

/// What a server answers, without the body of so many bytes.
pub fn response_head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 11 Jun 2024 10:00:00 GMT\r\n\
         Content-Type: text/javascript; charset=utf-8\r\nContent-Length: {length}\r\nConnection: keep-alive\r\n\
         Cache-Control: public, max-age=31536000, immutable\r\nETag: \"66682a00-{length:x}\"\r\n\
         Accept-Ranges: bytes\r\nVary: Accept-Encoding\r\n\r\n"
    )
}

fn response(length: usize) -> Vec<u8> {
    let mut response = response_head(length).into_bytes();
    response.resize(response.len() + length, b'x');
    response
}

fn exchanges(mut book: Playbook, count: usize, length: usize) -> Playbook {
    for _ in 0..count {
        book = book
            .client_sends(BROWSER_REQUEST)
            .server_gets(BROWSER_REQUEST)
            .server_sends(response(length))
            .client_gets(response(length));
    }
    book.client_closes().client_sees_end().server_sees_end()
}

/// So many exchanges of 1 KB, one after another on kept connections.
pub fn plain_exchanges(count: usize) -> Playbook {
    let book = Playbook::transparent(PLAIN).client_sends(BROWSER_REQUEST).connects(PLAIN);
    let book = book.server_gets(BROWSER_REQUEST).server_sends(response(1024)).client_gets(response(1024));
    exchanges(book, count.saturating_sub(1), 1024)
}

/// Handshakes on both sides, then so many exchanges of 1 KB.
pub fn secure_exchanges(count: usize) -> Playbook {
    let book = Playbook::transparent(SECURE)
        .trusting_origin()
        .client_starts_tls(ClientHandshake::to("example.com").alpn(&["http/1.1"]))
        .connects_tls(SECURE, ServerHandshake::of("example.com").alpn(&["http/1.1"]));
    exchanges(book, count, 1024)
}

/// A request whose body comes in chunks, as it goes to the server.
pub fn chunked_upload() -> Playbook {
    let mut request =
        b"POST /upload HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..16 {
        request.extend_from_slice(b"400\r\n");
        request.resize(request.len() + 1024, b'u');
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    Playbook::transparent(PLAIN)
        .client_sends(&request)
        .connects(PLAIN)
        .server_gets(&request)
        .server_sends(response(2))
        .client_gets(response(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_dialogues_are_played_in_every_way() {
        plain_exchanges(3).play();
        secure_exchanges(2).play();
        chunked_upload().play();
    }

    #[test]
    fn everyday_dialogues_can_be_timed() {
        plain_exchanges(3).play_untapped();
        secure_exchanges(2).play_untapped();
        chunked_upload().play_untapped();
    }

    #[test]
    fn the_request_is_as_long_as_a_browsers() {
        assert!((580..700).contains(&BROWSER_REQUEST.len()), "{}", BROWSER_REQUEST.len());
    }
}
