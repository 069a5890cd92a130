//! A socket of nfnetlink that overflowed serves the next request.

use std::sync::mpsc;
use std::time::Duration;

use atoll_node::netlink::nfnetlink::{REQUEST, name, put};
use atoll_node::netlink::nfnetlink_socket::{NfnetlinkChange, NfnetlinkSocket};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::plane::on_thread;
use nix::errno::Errno;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFT_MSG_DELTABLE`.
const DELETE_TABLE: u16 = 2;
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 16;
/// More refusals than fit into the buffer of a socket (`net.core.rmem_default`): the kernel answers each of them.
const REFUSALS: usize = 4_000;
/// Limit for an answer of the kernel, on a busy machine. A socket that is not emptied waits for ever.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_socket_that_overflowed_answers_the_next_request() {
    let netns = LabNetns::new().expect("root");
    let (sender, answers) = mpsc::channel();
    // It may wait for ever: the thread is not joined.
    drop(on_thread(netns.path(), move || {
        let mut socket = NfnetlinkSocket::here(NFTABLES).expect("a socket");
        let mut attributes = Vec::new();
        put(&mut attributes, 1, &name("missing"));
        let change = NfnetlinkChange { family: 1, kind: DELETE_TABLE, flags: 0, attributes };
        let refused = socket.transaction(vec![change; REFUSALS]).expect_err("there is no such table");
        let answer = socket.request(0, GET_GENERATION, REQUEST, &[]);
        drop(sender.send((refused, answer)));
    }));
    let (refused, answer) = answers.recv_timeout(LIMIT).expect("the next request is answered");
    assert_eq!(refused.raw_os_error(), Some(Errno::ENOBUFS as i32), "the socket overflowed: {refused}");
    assert_eq!(answer.expect("a generation").len(), 1);
}
