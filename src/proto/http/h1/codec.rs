//! HTTP/1 heads and framing, pure.
