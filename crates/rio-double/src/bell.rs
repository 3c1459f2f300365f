//! Waiting for the caller: an event that all operations of a completion queue set, and what is rung then.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE};
use windows_sys::Win32::Networking::WinSock::{RIO_EVENT_COMPLETION, RIO_IOCP_COMPLETION, RIO_NOTIFICATION_COMPLETION};
use windows_sys::Win32::System::IO::PostQueuedCompletionStatus;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForSingleObject};

/// How the caller wants to be told.
#[derive(Clone, Copy)]
pub(crate) enum Notification {
    /// An event is set; reset by `RIONotify` if so asked.
    Event { handle: usize, is_reset: bool },
    /// A packet arrives at a port.
    Port { handle: usize, key: usize, overlapped: usize },
}

impl Notification {
    /// What the caller's structure says; `None` if it is of no known type.
    pub(crate) fn new(asked: &RIO_NOTIFICATION_COMPLETION) -> Option<Self> {
        match asked.Type {
            RIO_EVENT_COMPLETION => {
                // SAFETY: RIOCreateCompletionQueue(3) — the type says that the event is what the union holds.
                let event = unsafe { asked.Anonymous.Event };
                Some(Notification::Event { handle: event.EventHandle as usize, is_reset: event.NotifyReset != 0 })
            }
            RIO_IOCP_COMPLETION => {
                // SAFETY: RIOCreateCompletionQueue(3) — the type says that the port is what the union holds.
                let port = unsafe { asked.Anonymous.Iocp };
                let (key, overlapped) = (port.CompletionKey as usize, port.Overlapped as usize);
                Some(Notification::Port { handle: port.IocpHandle as usize, key, overlapped })
            }
            _ => None,
        }
    }

    /// `RIONotify` was called.
    pub(crate) fn prepare(self) {
        if let Notification::Event { handle, is_reset: true } = self {
            // SAFETY: ResetEvent(3) — the caller's event, which lives as long as the queue; anything else is refused.
            unsafe { ResetEvent(handle as HANDLE) };
        }
    }

    /// Tells the caller.
    pub(crate) fn fire(self) {
        match self {
            // SAFETY: SetEvent(3) — the caller's event, which lives as long as the queue; anything else is refused.
            Notification::Event { handle, .. } => unsafe { SetEvent(handle as HANDLE) },
            // SAFETY: PostQueuedCompletionStatus(3) — the caller's port; key and overlapped are only passed through.
            Notification::Port { handle, key, overlapped } => unsafe {
                PostQueuedCompletionStatus(handle as HANDLE, 0, key, overlapped as *const _)
            },
        };
    }
}

/// An event that resets itself.
pub(crate) struct Event(usize);

impl Event {
    pub(crate) fn new() -> Self {
        // SAFETY: CreateEventW(3) — no attributes and no name.
        let handle = unsafe { CreateEventW(std::ptr::null(), 0, 0, std::ptr::null()) };
        assert!(!handle.is_null(), "no event: {}", std::io::Error::last_os_error());
        Event(handle as usize)
    }

    /// For an OVERLAPPED whose end no port is to hear of: see GetQueuedCompletionStatus on the low bit.
    pub(crate) fn apart_from_ports(&self) -> HANDLE {
        (self.0 | 1) as HANDLE
    }

    pub(crate) fn set(&self) {
        // SAFETY: SetEvent(3) — the handle is open as long as `self`.
        unsafe { SetEvent(self.0 as HANDLE) };
    }

    fn wait(&self) {
        // SAFETY: WaitForSingleObject(3) — the handle is open as long as `self`.
        unsafe { WaitForSingleObject(self.0 as HANDLE, INFINITE) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: CloseHandle(3) — opened by `new`, closed once. No operation has it any more: each keeps the event.
        unsafe { CloseHandle(self.0 as HANDLE) };
    }
}

/// Whether somebody wants to be told: else the thread need not hear of each operation.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_open: bool) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = is_open;
        if is_open {
            self.opened.notify_one();
        }
    }

    fn pass(&self) {
        let closed = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(closed, |is_open| !*is_open));
    }
}

/// The thread that sleeps on the event of a completion queue.
pub(crate) struct Bell {
    event: Arc<Event>,
    gate: Arc<Gate>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Bell {
    /// Calls `look` whenever the event was set.
    pub(crate) fn new(event: Arc<Event>, look: impl Fn() + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let gate = Arc::new(Gate::default());
        let (heard, over, passed) = (event.clone(), is_over.clone(), gate.clone());
        let work = move || {
            while !over.load(Ordering::Acquire) {
                passed.pass();
                heard.wait();
                look();
            }
        };
        let thread = std::thread::Builder::new().name("rio-double".into()).spawn(work).expect("a thread to wait on");
        Bell { event, gate, is_over, thread }
    }

    /// From now on somebody wants to be told, or nobody does any more.
    pub(crate) fn listen(&self, is_wanted: bool) {
        self.gate.set(is_wanted);
    }

    /// Ends the thread. Not to be called with anything locked that `look` needs.
    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        self.gate.set(true);
        // An operation that starts resets its event: set until the thread is gone.
        while !self.thread.is_finished() {
            self.event.set();
            std::thread::yield_now();
        }
        let _ = self.thread.join();
    }
}
