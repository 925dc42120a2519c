//! HTTP: what an exchange is, whatever the version; and HTTP/1.

pub mod exchange;
pub mod h1;
pub mod plan;
#[cfg(test)]
mod playbook;
mod tape;
