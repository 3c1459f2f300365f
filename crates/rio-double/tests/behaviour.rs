//! Behaviour of the double for who keeps the rules: what is deferred waits, what is late comes late, faults are told.
#![cfg(windows)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rio_double::{Faults, Remains, Rule, catch, remains, set_faults};
use support::{DEADLINE, FLAGS, PAGE_BYTES, Pages, Port, RECEIVE, Rio, SEND, close, datagrams, pair, slice};
use windows_sys::Win32::Networking::WinSock::{
    RIO_CORRUPT_CQ, RIO_MSG_COMMIT_ONLY, RIO_MSG_DEFER, RIO_MSG_DONT_NOTIFY, WSA_FLAG_OVERLAPPED, WSAENOBUFS,
};

#[test]
fn deferred_sends_start_with_the_commit_and_in_order() {
    let (rio, port, mut pages) = (Rio::new(), Port::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(8, Some((&port, 5))));
    let (near, mut far) = pair(FLAGS);
    let requests = rio.requests(&near, [1, 4], completions).unwrap();
    for number in 0..4 {
        pages.page_mut(0)[number] = b'a' + number as u8;
        rio.post(SEND, requests, slice(buffer, number, 1), RIO_MSG_DEFER, number).unwrap();
    }
    far.set_nonblocking(true).unwrap();
    let mut heard = [0; 4];
    assert_eq!(far.read(&mut heard).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing has started");
    assert!(rio.dequeue(completions).unwrap().is_empty());
    far.set_nonblocking(false).unwrap();

    rio.commit(SEND, requests).unwrap();
    far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"abcd");
    let mut contexts = Vec::new();
    while contexts.len() < 4 {
        contexts.extend(rio.wait(completions, &port).iter().map(|result| result.RequestContext));
    }
    assert_eq!(contexts, [0, 1, 2, 3]);
    close(near);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn received_bytes_appear_when_they_are_dequeued() {
    let (rio, port, pages) = (Rio::new(), Port::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(2, Some((&port, 5))));
    let (near, mut far) = pair(FLAGS);
    let requests = rio.requests(&near, [1, 1], completions).unwrap();
    rio.post(RECEIVE, requests, slice(buffer, 0, 100), 0, 0).unwrap();
    far.write_all(b"bytes").unwrap();
    assert_eq!(rio.notify(completions), 0);
    assert_eq!(port.wait(DEADLINE), Some(5));
    assert_eq!(pages.page(0)[0], 0, "the system has not let go");
    assert_eq!(rio.dequeue(completions).unwrap()[0].BytesTransferred, 5);
    assert_eq!(&pages.page(0)[..5], b"bytes");
    close(near);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn a_notification_comes_once_and_at_once_if_something_is_there() {
    let (rio, port, pages) = (Rio::new(), Port::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(4, Some((&port, 5))));
    let (near, mut far) = pair(FLAGS);
    let requests = rio.requests(&near, [2, 2], completions).unwrap();
    rio.post(RECEIVE, requests, slice(buffer, 0, 1), 0, 1).unwrap();
    rio.post(RECEIVE, requests, slice(buffer, 1, 1), RIO_MSG_DONT_NOTIFY, 2).unwrap();
    assert_eq!(rio.notify(completions), 0);
    far.write_all(b"x").unwrap();
    assert_eq!(port.wait(DEADLINE), Some(5));
    far.write_all(b"y").unwrap();
    assert_eq!(port.wait(Duration::from_millis(50)), None, "it is not armed any more");
    assert_eq!(rio.notify(completions), 0);
    assert_eq!(port.wait(DEADLINE), Some(5), "the first completion is still there");
    let mut count = 0;
    while count < 2 {
        count += rio.dequeue(completions).unwrap().len();
    }
    close(near);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn datagrams_carry_addresses_in_slices() {
    let (rio, port, mut pages) = (Rio::new(), Port::new(), Pages::new(2));
    let (buffer, completions) = (rio.register(&pages), rio.completions(4, Some((&port, 5))));
    let (near, far) = (datagrams(), datagrams());
    let requests = rio.requests(&near, [1, 1], completions).unwrap();
    let address = slice(buffer, PAGE_BYTES, 28);
    rio.post_datagram(RECEIVE, requests, slice(buffer, 0, 100), address).unwrap();
    far.send_to(b"there", near.local_addr().unwrap()).unwrap();
    let results = rio.wait(completions, &port);
    assert_eq!((results[0].Status, results[0].BytesTransferred), (0, 5));
    assert_eq!(&pages.page(0)[..5], b"there");
    let SocketAddr::V4(from) = far.local_addr().unwrap() else { panic!("bound to 127.0.0.1") };
    assert_eq!(pages.page(1)[2..4], from.port().to_be_bytes());
    assert_eq!(pages.page(1)[4..8], from.ip().octets());

    pages.page_mut(0)[..4].copy_from_slice(b"back");
    rio.post_datagram(SEND, requests, slice(buffer, 0, 4), address).unwrap();
    let mut heard = [0; 10];
    assert_eq!(far.recv_from(&mut heard).unwrap(), (4, near.local_addr().unwrap()));
    assert_eq!(rio.wait(completions, &port)[0].BytesTransferred, 4);

    let short = slice(buffer, PAGE_BYTES, 16);
    let (_, violations) = catch(|| rio.post_datagram(RECEIVE, requests, slice(buffer, 0, 100), short));
    assert_eq!(violations[0].rule, Rule::AddressSlice);
    close(near);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn a_queue_grows_and_quotas_come_back_with_the_last_completion() {
    let (rio, port, pages) = (Rio::new(), Port::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(2, Some((&port, 5))));
    let ((first, _far), (second, _other)) = (pair(FLAGS), pair(FLAGS));
    let requests = rio.requests(&first, [1, 1], completions).unwrap();
    let (refused, violations) = catch(|| rio.requests(&second, [1, 1], completions));
    assert_eq!((refused, violations[0].rule), (Err(WSAENOBUFS), Rule::QuotasOverflow));
    let (refused, violations) = catch(|| rio.resize_completions(completions, 1));
    assert_eq!((refused.is_err(), violations[0].rule), (true, Rule::QueueSize));

    rio.post(RECEIVE, requests, slice(buffer, 0, 1), 0, 0).unwrap();
    close(first);
    let (refused, _) = catch(|| rio.requests(&second, [1, 1], completions));
    assert!(refused.is_err(), "the closed socket's request is not dequeued");
    assert_eq!(rio.dequeue(completions).unwrap().len(), 1);
    rio.requests(&second, [1, 1], completions).unwrap();
    rio.resize_completions(completions, 4).unwrap();
    close(second);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn forms_that_are_no_requests_are_refused() {
    let (rio, pages) = (Rio::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(2, None));
    let (near, _far) = pair(FLAGS);
    let requests = rio.requests(&near, [1, 1], completions).unwrap();
    let refused = |mistake: &dyn Fn() -> bool| catch(mistake).1[0].rule;
    let both = RIO_MSG_COMMIT_ONLY | RIO_MSG_DEFER;
    assert_eq!(refused(&|| rio.post(SEND, requests, slice(buffer, 0, 1), both, 0).is_err()), Rule::CommitForm);
    assert_eq!(refused(&|| rio.post(SEND, requests, slice(buffer, 0, 0), 0, 0).is_err()), Rule::SliceOutside);
    assert_eq!(refused(&|| rio.post(SEND, requests, slice(buffer, 0, 1), 64, 0).is_err()), Rule::Unsupported);
    assert_eq!(refused(&|| rio.post(SEND, requests + 1000, slice(buffer, 0, 1), 0, 0).is_err()), Rule::UnknownHandle);
    let pieces = [slice(buffer, 0, 1), slice(buffer, 1, 1)];
    assert_eq!(refused(&|| rio.post_pieces(SEND, requests, &pieces).is_err()), Rule::SliceCount);
    assert_eq!(refused(&|| rio.notify(completions) != 0), Rule::NotificationMissing);
    assert_eq!(refused(&|| rio.completions(0, None) == 0), Rule::QueueSize);
    assert_eq!(refused(&|| rio.commit(SEND, requests + 1000).is_err()), Rule::UnknownHandle);
    let (plain, _other) = pair(WSA_FLAG_OVERLAPPED);
    assert_eq!(refused(&|| rio.requests(&plain, [1, 1], completions).is_err()), Rule::SocketUnflagged);
    // From another thread a commit is no mistake.
    std::thread::scope(|scope| scope.spawn(|| rio.commit(SEND, requests).unwrap()).join().unwrap());
    close(near);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

#[test]
fn faults_are_told_to_who_keeps_the_rules() {
    let (rio, port, pages) = (Rio::new(), Port::new(), Pages::new(1));
    let (buffer, completions) = (rio.register(&pages), rio.completions(8, Some((&port, 5))));
    let (near, _far) = pair(FLAGS);
    set_faults(Faults { refused_queues: 1, refused_requests: 1, late_dequeues: 2, ..Faults::default() });
    assert_eq!(rio.requests(&near, [2, 2], completions), Err(WSAENOBUFS));
    let requests = rio.requests(&near, [2, 2], completions).unwrap();
    assert_eq!(rio.post(RECEIVE, requests, slice(buffer, 0, 10), 0, 0), Err(WSAENOBUFS));
    rio.post(RECEIVE, requests, slice(buffer, 0, 10), 0, 0).unwrap();
    close(near);
    assert!(rio.wait(completions, &port).is_empty(), "late");
    assert_eq!(remains(), Remains { completion_queues: 1, request_queues: 1, requests: 1 });
    assert_eq!(rio.wait(completions, &port).len(), 1);
    assert_eq!(remains(), Remains { completion_queues: 1, ..Remains::default() });

    set_faults(Faults { corrupt_dequeues: 2, ..Faults::default() });
    assert!(rio.dequeue(completions).is_ok());
    assert_eq!(rio.dequeue(completions).err(), Some(RIO_CORRUPT_CQ));
    let (_, violations) = catch(|| rio.notify(completions));
    assert_eq!(violations[0].rule, Rule::UsedCorrupt);
    rio.close_completions(completions);
    rio.deregister(buffer);
}

/// What the child of the next test is told by.
const CHILD: &str = "RIO_DOUBLE_CHILD";

#[test]
fn a_violation_ends_the_process_though_panics_are_caught() {
    if std::env::var_os(CHILD).is_some() {
        let _ = std::panic::catch_unwind(|| Rio::new().notify(4711));
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_violation_ends_the_process_though_panics_are_caught"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the child passed");
    let is_told = told.contains("UnknownHandle") && told.contains("there is no completion queue 4711");
    assert!(is_told, "{}: {}{told}", output.status, String::from_utf8_lossy(&output.stdout));
}
