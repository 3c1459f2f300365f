//! Waits below the clock's tick (15.6 ms): a high-resolution timer whose end arrives at the port as a completion.
//!
//! The calls that bind a timer to a port are ntdll's and found by name: where one is missing, waits are rounded up to
//! milliseconds and end with a tick of the clock.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::transmute;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{GENERIC_ALL, HANDLE};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Threading::{
    CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateWaitableTimerExW, SetWaitableTimer, TIMER_ALL_ACCESS,
};
use windows_sys::core::{s, w};

use super::port::{Port, key};

/// Longer waits may be a tick late: against them a tick is little, and the timer costs three system calls.
pub(in crate::backend) const PRECISE_MAX: Duration = Duration::from_millis(100);

/// As `ZwCreateWaitCompletionPacket`, `ZwAssociateWaitCompletionPacket` and `ZwCancelWaitCompletionPacket` of the driver kit.
type CreatePacket = unsafe extern "system" fn(*mut HANDLE, u32, *const c_void) -> i32;
type AssociatePacket =
    unsafe extern "system" fn(HANDLE, HANDLE, HANDLE, *const c_void, *const c_void, i32, usize, *mut u8) -> i32;
type CancelPacket = unsafe extern "system" fn(HANDLE, u8) -> i32;

/// A timer that ends the wait at a port.
pub(in crate::backend) struct PreciseTimer {
    timer: OwnedHandle,
    packet: OwnedHandle,
    associate: AssociatePacket,
    cancel: CancelPacket,
    is_armed: bool,
}

impl PreciseTimer {
    /// Errors: what is missing, for people.
    pub(in crate::backend) fn new() -> Result<Self, &'static str> {
        const NO_CALLS: &str = "this system lacks NtAssociateWaitCompletionPacket";
        // SAFETY: Win32: GetModuleHandleW — a string with an end; ntdll is in every process and stays.
        let library = unsafe { GetModuleHandleW(w!("ntdll.dll")) };
        // SAFETY: Win32: GetProcAddress — strings with an end.
        let (create, associate, cancel) = unsafe {
            (
                GetProcAddress(library, s!("NtCreateWaitCompletionPacket")).ok_or(NO_CALLS)?,
                GetProcAddress(library, s!("NtAssociateWaitCompletionPacket")).ok_or(NO_CALLS)?,
                GetProcAddress(library, s!("NtCancelWaitCompletionPacket")).ok_or(NO_CALLS)?,
            )
        };
        // SAFETY: Win32: ZwCreateWaitCompletionPacket and its two others — the functions of these names have these
        // types.
        let (create, associate, cancel) = unsafe {
            (
                transmute::<unsafe extern "system" fn() -> isize, CreatePacket>(create),
                transmute::<unsafe extern "system" fn() -> isize, AssociatePacket>(associate),
                transmute::<unsafe extern "system" fn() -> isize, CancelPacket>(cancel),
            )
        };
        let flags = CREATE_WAITABLE_TIMER_HIGH_RESOLUTION;
        // SAFETY: Win32: CreateWaitableTimerExW — neither attributes nor a name.
        let timer = unsafe { CreateWaitableTimerExW(std::ptr::null(), std::ptr::null(), flags, TIMER_ALL_ACCESS) };
        if timer.is_null() {
            return Err("high-resolution timers need Windows 10 1803");
        }
        // SAFETY: Win32: CreateWaitableTimerExW — a new handle that nobody else knows.
        let timer = unsafe { OwnedHandle::from_raw_handle(timer) };
        let mut packet = std::ptr::null_mut();
        // SAFETY: Win32: ZwCreateWaitCompletionPacket — writes one handle; no attributes.
        if unsafe { create(&raw mut packet, GENERIC_ALL, std::ptr::null()) } < 0 {
            return Err("no wait completion packet could be made");
        }
        // SAFETY: Win32: ZwCreateWaitCompletionPacket — a new handle that nobody else knows.
        let packet = unsafe { OwnedHandle::from_raw_handle(packet) };
        Ok(PreciseTimer { timer, packet, associate, cancel, is_armed: false })
    }

    /// Lets a completion arrive at the port after so long. False: the wait has to end by itself.
    pub(in crate::backend) fn arm(&mut self, after: Duration, port: &Port) -> bool {
        // In units of 100 ns; negative means from now on.
        let due = -i64::try_from(after.as_nanos().div_ceil(100)).unwrap_or(i64::MAX);
        let timer = self.timer.as_raw_handle();
        // SAFETY: Win32: SetWaitableTimer — the time is read during the call; no routine.
        if unsafe { SetWaitableTimer(timer, &raw const due, 0, None, std::ptr::null(), 0) } == 0 {
            return false;
        }
        let none = std::ptr::null();
        // SAFETY: Win32: ZwAssociateWaitCompletionPacket — three open handles; the key is handed through.
        let status = unsafe {
            let key = key::TIMER as *const c_void;
            (self.associate)(self.packet.as_raw_handle(), port.raw(), timer, key, none, 0, 0, std::ptr::null_mut())
        };
        self.is_armed = status >= 0;
        self.is_armed
    }

    /// Its completion has been taken out of the port.
    pub(in crate::backend) fn fired(&mut self) {
        self.is_armed = false;
    }

    /// The wait is over: what has not come shall not come any more.
    pub(in crate::backend) fn disarm(&mut self) {
        if std::mem::replace(&mut self.is_armed, false) {
            // SAFETY: Win32: ZwCancelWaitCompletionPacket — an open handle; takes the completion back out of the port.
            unsafe { (self.cancel)(self.packet.as_raw_handle(), 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Where the system has what it needs, the timer ends a wait that has no end of its own; where not, the reason is told.
    #[test]
    fn the_timer_ends_a_wait_or_says_what_is_missing() {
        let mut timer = match PreciseTimer::new() {
            Ok(timer) => timer,
            Err(reason) => return assert!(!reason.is_empty()),
        };
        let port = Port::new().unwrap();
        let mut entries = Vec::with_capacity(4);
        for _ in 0..3 {
            let (start, after) = (Instant::now(), Duration::from_millis(3));
            assert!(timer.arm(after, &port));
            port.wait(&mut entries, None).unwrap();
            assert_eq!(entries[0].lpCompletionKey, key::TIMER);
            assert!(start.elapsed() >= after);
            timer.fired();
        }
        assert!(timer.arm(Duration::ZERO, &port));
        timer.disarm();
        port.wait(&mut entries, Some(Duration::from_millis(20))).unwrap();
        assert!(entries.is_empty(), "it was taken back");
    }
}
