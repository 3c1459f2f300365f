//! Common part: what the fuzz targets run. The tests of `raon-session` run the same over a generated corpus, without a fuzzer.
#![allow(missing_docs)]

pub mod framings;
pub mod oracle;
pub mod outbox;
