//! A strict double of Windows' registered I/O (RIO), for tests: the same table of functions, played over overlapped
//! sockets, and every rule of its use checked. It is for machines that have no registered I/O (Wine has none), and for
//! finding what a real system would only punish now and then.
//!
//! Life of a request:
//! 1. `RIOSend` or `RIOReceive` checks it: its queue and its quota, its thread, its slices of registered regions. From
//!    here on the slices are held: nobody may write there, and the region may not be deregistered.
//! 2. Deferred, it waits for a commit. Then it becomes `WSASend`, `WSARecv`, `WSASendTo` or `WSARecvFrom`, on memory of
//!    the double's own, with the low bit of `hEvent` set: nothing of it arrives at the port of whoever owns the socket.
//! 3. Its end is found by looking at its OVERLAPPED, in `RIODequeueCompletion` and `RIONotify`, on the caller's thread.
//! 4. Its completion is dequeued: received bytes appear in the slice only now, sent bytes must be what they were. The
//!    slices are let go.
//! 5. A socket that closes ends its requests: `socket_closing` cancels them and waits until the system has let go of
//!    all, because an overlapped operation must not outlive its handle. Their completions are still to be dequeued.
//!
//! Nothing moves on a thread of the double's own, so what is dequeued depends on nothing but the order of calls and what
//! the network has done. `RIONotify` alone needs somebody who waits while the caller does: one thread per completion
//! queue sleeps on the one event that all its operations set; it looks whether something has ended, posts the
//! notification that was asked for, and touches nothing else. A wait per operation would do the same with a thread for
//! each sixty-three of them.
//!
//! A broken rule ends the process, with the rule, the thread and the way there on standard error: a panic could be caught
//! on its way, and cannot leave a function of the system's calling convention anyway. Tests of mistakes collect what
//! they provoke with `catch`.
//!
//! ```
//! # #[cfg(windows)] {
//! let table = rio_double::functions();
//! let notify = table.RIONotify.expect("the table is full");
//! // SAFETY: RIONotify(3) — it takes any number; this one is of no queue, which is what the example shows.
//! let (code, violations) = rio_double::catch(|| unsafe { notify(4711) });
//! assert_ne!(code, 0);
//! assert_eq!(violations[0].rule, rio_double::Rule::UnknownHandle);
//! # }
//! ```
//!
//! On drop of everything (the process ends, a completion queue is closed with requests outstanding): operations that are
//! under way are cancelled and waited for before their memory is freed.

mod platform;

#[allow(unused_imports, unreachable_pub, reason = "there is nothing in it on other systems")]
pub use platform::*;
