//! epoll: edge-triggered, one registration per socket. All else is `readiness.rs`.

mod sys;

use crate::backend::readiness::Readiness;

/// The epoll back end.
pub type Epoll = Readiness<sys::EpollSelector>;
