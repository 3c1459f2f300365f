//! The double of registered I/O, as drivers of the suite use it.
#![allow(unsafe_code)]

use std::os::windows::io::AsRawSocket;
use std::sync::OnceLock;

use raon_provider::{RioFunctions, RioHooks};
use socket2::Socket;

/// WSA_FLAG_OVERLAPPED and WSA_FLAG_REGISTERED_IO, see WSASocketW.
const FLAGS: u32 = 0x01 | 0x100;

/// Functions that take the place of the system's.
pub fn rio_functions() -> Option<RioFunctions> {
    static FUNCTIONS: OnceLock<RioFunctions> = OnceLock::new();
    let make = || {
        let hooks = RioHooks {
            socket_made: rio_double::socket_made,
            socket_closing: rio_double::socket_closing,
            is_registered: rio_double::is_registered,
        };
        // SAFETY: RIOSend(3) — the double does what the manual says, and refuses what it forbids.
        unsafe { RioFunctions::new(std::ptr::from_ref(&rio_double::functions()).cast(), hooks) }
    };
    Some(*FUNCTIONS.get_or_init(make))
}

/// A socket of the suite's own was made with the flags.
pub(super) fn made(socket: &Socket) {
    rio_double::socket_made(socket.as_raw_socket() as usize, FLAGS);
}

/// True while the double works in this thread: what it does is not the back end's.
pub fn is_aside() -> bool {
    rio_double::is_inside()
}
