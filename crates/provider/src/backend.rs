//! Back ends, each a folder of its own, and the parts that several of them share. The list of them is in `any.rs`.

#[cfg(target_os = "linux")]
mod absence;
#[cfg(target_os = "linux")]
mod datagram;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(target_os = "linux")]
mod event_fd;
#[cfg(windows)]
pub(crate) mod iocp;
#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
pub(crate) mod kqueue;
#[cfg(unix)]
mod readiness;
#[cfg(windows)]
pub(crate) mod rio;
pub(crate) mod sim;
#[cfg(target_os = "linux")]
pub(crate) mod uring;
