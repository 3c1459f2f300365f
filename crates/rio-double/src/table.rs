//! The table of functions: from the system's calling convention to the double's own terms and back.
#![allow(unsafe_code)]

use std::ffi::c_void;

use windows_sys::Win32::Networking::WinSock::{
    RIO_BUF, RIO_BUFFERID, RIO_CQ, RIO_EXTENSION_FUNCTION_TABLE, RIO_NOTIFICATION_COMPLETION, RIO_RQ, RIORESULT,
    SOCKET, WSAEINVAL, WSASetLastError,
};
use windows_sys::core::{BOOL, PCSTR};

use super::bell::Notification;
use super::requests::{Asked, Side};
use super::rule::{Rule, refuse};
use super::state::lock;

/// What stands for a region that was refused, see mswsockdef.h.
const RIO_INVALID_BUFFERID: RIO_BUFFERID = 0xFFFF_FFFF;

/// The double in the form that `WSAIoctl` gives the real functions in.
pub fn functions() -> RIO_EXTENSION_FUNCTION_TABLE {
    RIO_EXTENSION_FUNCTION_TABLE {
        cbSize: size_of::<RIO_EXTENSION_FUNCTION_TABLE>() as u32,
        RIOReceive: Some(receive),
        RIOReceiveEx: Some(receive_ex),
        RIOSend: Some(send),
        RIOSendEx: Some(send_ex),
        RIOCloseCompletionQueue: Some(close_completions),
        RIOCreateCompletionQueue: Some(create_completions),
        RIOCreateRequestQueue: Some(create_requests),
        RIODequeueCompletion: Some(dequeue),
        RIODeregisterBuffer: Some(deregister),
        RIONotify: Some(notify),
        RIORegisterBuffer: Some(register),
        RIOResizeCompletionQueue: Some(resize_completions),
        RIOResizeRequestQueue: Some(resize_requests),
    }
}

/// Sets the thread's last error, and returns what stands for failure.
fn answer<T>(result: Result<T, i32>, failed: T) -> T {
    result.unwrap_or_else(|code| {
        // SAFETY: WSASetLastError(3) — sets a number of this thread.
        unsafe { WSASetLastError(code) };
        failed
    })
}

fn truth(result: Result<(), i32>) -> BOOL {
    answer(result.map(|()| 1), 0)
}

/// # Safety
/// Null, or a RIO_BUF.
unsafe fn buffer_at(pointer: *const RIO_BUF) -> Option<RIO_BUF> {
    // SAFETY: RIOSend(3) — null or a RIO_BUF, as this function's caller keeps.
    unsafe { pointer.as_ref() }.copied()
}

/// # Safety
/// As RIOReceive(3).
unsafe extern "system" fn receive(
    queue: RIO_RQ,
    data: *const RIO_BUF,
    count: u32,
    flags: u32,
    context: *const c_void,
) -> BOOL {
    // SAFETY: RIOReceive(3) — the caller keeps what it says of `data`.
    let data = unsafe { buffer_at(data) };
    let asked = Asked { data, count, remote: None, has_others: false, flags, context: context as u64 };
    truth(lock().post(queue, Side::Receive, &asked))
}

/// # Safety
/// As RIOSend(3).
unsafe extern "system" fn send(
    queue: RIO_RQ,
    data: *const RIO_BUF,
    count: u32,
    flags: u32,
    context: *const c_void,
) -> BOOL {
    // SAFETY: RIOSend(3) — the caller keeps what it says of `data`.
    let data = unsafe { buffer_at(data) };
    let asked = Asked { data, count, remote: None, has_others: false, flags, context: context as u64 };
    truth(lock().post(queue, Side::Send, &asked))
}

/// # Safety
/// As RIOReceiveEx(3).
unsafe extern "system" fn receive_ex(
    queue: RIO_RQ,
    data: *const RIO_BUF,
    count: u32,
    local: *const RIO_BUF,
    remote: *const RIO_BUF,
    control: *const RIO_BUF,
    flags_out: *const RIO_BUF,
    flags: u32,
    context: *const c_void,
) -> i32 {
    let has_others = !(local.is_null() && control.is_null() && flags_out.is_null());
    // SAFETY: RIOReceiveEx(3) — the caller keeps what it says of `data` and of the remote address.
    let (data, remote) = unsafe { (buffer_at(data), buffer_at(remote)) };
    let asked = Asked { data, count, remote, has_others, flags, context: context as u64 };
    truth(lock().post(queue, Side::Receive, &asked))
}

/// # Safety
/// As RIOSendEx(3).
unsafe extern "system" fn send_ex(
    queue: RIO_RQ,
    data: *const RIO_BUF,
    count: u32,
    local: *const RIO_BUF,
    remote: *const RIO_BUF,
    control: *const RIO_BUF,
    flags_in: *const RIO_BUF,
    flags: u32,
    context: *const c_void,
) -> BOOL {
    let has_others = !(local.is_null() && control.is_null() && flags_in.is_null());
    // SAFETY: RIOSendEx(3) — the caller keeps what it says of `data` and of the remote address.
    let (data, remote) = unsafe { (buffer_at(data), buffer_at(remote)) };
    let asked = Asked { data, count, remote, has_others, flags, context: context as u64 };
    truth(lock().post(queue, Side::Send, &asked))
}

extern "system" fn close_completions(queue: RIO_CQ) {
    let bell = lock().close_completions(queue);
    // Its thread may be about to take the lock.
    if let Some(bell) = bell {
        bell.stop();
    }
}

/// # Safety
/// As RIOCreateCompletionQueue(3).
unsafe extern "system" fn create_completions(size: u32, asked: *const RIO_NOTIFICATION_COMPLETION) -> RIO_CQ {
    // SAFETY: RIOCreateCompletionQueue(3) — null or a structure.
    let notification = unsafe { asked.as_ref() };
    let notification = match notification.map(|asked| (Notification::new(asked), asked.Type)) {
        None => Ok(None),
        Some((Some(notification), _)) => Ok(Some(notification)),
        Some((None, kind)) => refuse(Rule::Unsupported, WSAEINVAL, format!("a notification of type {kind}")),
    };
    let mut double = lock();
    let created = notification.and_then(|notification| double.create_completions(size, notification));
    if let Ok(id) = created {
        double.ring_by(id, move || lock().look(id));
    }
    answer(created, 0)
}

extern "system" fn create_requests(
    socket: SOCKET,
    receives: u32,
    receive_buffers: u32,
    sends: u32,
    send_buffers: u32,
    receive_completions: RIO_CQ,
    send_completions: RIO_CQ,
    context: *const c_void,
) -> RIO_RQ {
    let (quotas, data_buffers) = ([receives, sends], [receive_buffers, send_buffers]);
    let completions = [receive_completions, send_completions];
    answer(lock().create_requests(socket, quotas, data_buffers, completions, context as u64), 0)
}

/// # Safety
/// As RIODequeueCompletion(3).
unsafe extern "system" fn dequeue(queue: RIO_CQ, results: *mut RIORESULT, room: u32) -> u32 {
    match lock().dequeue(queue, room as usize) {
        Err(corrupt) => corrupt,
        Ok(dequeued) => {
            // SAFETY: RIODequeueCompletion(3) — the array has `room` places, and no more were dequeued.
            unsafe { std::ptr::copy_nonoverlapping(dequeued.as_ptr(), results, dequeued.len()) };
            dequeued.len() as u32
        }
    }
}

extern "system" fn deregister(buffer: RIO_BUFFERID) {
    lock().regions.deregister(buffer);
}

extern "system" fn notify(queue: RIO_CQ) -> i32 {
    lock().notify(queue).err().unwrap_or(0)
}

extern "system" fn register(base: PCSTR, length: u32) -> RIO_BUFFERID {
    let mut double = lock();
    let id = double.next_id();
    answer(double.regions.register(id, base as usize, length), RIO_INVALID_BUFFERID)
}

extern "system" fn resize_completions(queue: RIO_CQ, size: u32) -> BOOL {
    truth(lock().resize_completions(queue, size))
}

extern "system" fn resize_requests(queue: RIO_RQ, receives: u32, sends: u32) -> BOOL {
    truth(lock().resize_requests(queue, [receives, sends]))
}
