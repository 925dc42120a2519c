//! Flows at rest.
