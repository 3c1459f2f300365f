//! The steps that make connections, and those of the plain peers at their other ends.

use raon_provider::{AcceptedSocket, Address, ErrorKind, Operation, SocketId};

use super::model::{End, Kind, Link, Op};
use super::pipe::{Pipe, content};
use super::play::{Player, Stray};
use super::verb::{Step, Verb};
use crate::peer::Peer;

impl Player {
    pub(super) fn adopt(&mut self) {
        if self.model.socket_count() < self.model.limits.sockets {
            let (id, peer) = self.rig.peer_with_buffers(self.shape.socket_bytes, self.shape.socket_bytes);
            let link = self.add_link([End::Pending, End::Peer], None);
            self.model.add_socket(id, Some((link, 0)));
            self.peers.insert(link, (1, peer));
        }
    }

    fn add_link(&mut self, ends: [End; 2], origin: Option<(Address, usize)>) -> usize {
        let pipes = [Pipe::default(), Pipe::default()];
        self.model.links.push(Link { ends, pipes, is_broken: false, origin });
        self.model.links.len() - 1
    }

    pub(super) fn listen(&mut self) {
        if self.model.socket_count() < self.model.limits.sockets && self.listeners.len() < 2 {
            let (id, address) = self.rig.listen_at(self.setup.own_address());
            let index = self.model.add_socket(id, None);
            self.listeners.push((index, address));
        }
    }

    pub(super) fn open_listeners(&self) -> Vec<(usize, Address)> {
        let is_open = |(index, _): &&(usize, Address)| self.model.sockets[*index].closing.is_none();
        self.listeners.iter().filter(is_open).cloned().collect()
    }

    pub(super) fn accept(&mut self, step: &Step) {
        let open = self.open_listeners();
        let Some((index, _)) = open.get(step.which % open.len().max(1)) else { return };
        let (token, op, operation) = self.build(Kind::Accept, *index, step);
        self.submit(token, op, operation);
    }

    pub(super) fn connect(&mut self, step: &Step) {
        let open = self.open_listeners();
        let Some((listener, address)) = open.get(step.which % open.len().max(1)).cloned() else { return };
        if self.is_ambiguous(listener) {
            return;
        }
        let (token, op) = (self.token(), Op::new(Kind::Connect { listener }, None));
        self.submit(token, op, Operation::Connect { address, options: Default::default() });
    }

    pub(super) fn peer_connect(&mut self, step: &Step) {
        let open = self.open_listeners();
        // A close that waits in the mailbox leaves the listener as it is until the next turn.
        let Some((listener, address)) = open.get(step.which % open.len().max(1)).cloned() else { return };
        if self.setup.is_simulated() && self.is_ambiguous(listener) {
            return;
        }
        let peer = Peer::connect(&address);
        let link = self.add_link([End::Peer, End::Pending], Some((peer.local_address(), listener)));
        self.peers.insert(link, (0, peer));
    }

    /// Ends of Unix sockets have no name, unless they ask for one: at each listener they are told apart by being one at a
    /// time.
    fn is_ambiguous(&self, listener: usize) -> bool {
        let is_connecting = |op: &Op| op.kind == Kind::Connect { listener };
        let is_stray = |stray: &Stray| stray.listener == listener && stray.from == Address::Unnamed;
        let is_pending = |link: &Link| link.is_waiting(&Address::Unnamed, listener);
        let is_unclear = self.doubtful.contains(&listener) || self.model.ops.values().any(is_connecting);
        let is_there = self.strays.iter().any(is_stray) || self.model.links.iter().any(is_pending);
        self.setup.is_unix && (is_unclear || is_there)
    }

    pub(super) fn match_connected(&mut self, socket: SocketId, listener: usize) {
        let Ok(address) = self.rig.driver.local_address(socket) else {
            assert!(self.model.is_shut);
            let link = self.add_link([End::Pending, End::Gone], None);
            self.model.break_link(link);
            self.model.add_socket(socket, Some((link, 0)));
            return;
        };
        let link = self.add_link([End::Pending, End::Pending], Some((address.clone(), listener)));
        self.model.add_socket(socket, Some((link, 0)));
        let is_its = |stray: &Stray| stray.listener == listener && stray.from == address;
        if let Some(place) = self.strays.iter().position(is_its) {
            self.model.links[link].ends[1] = End::Accepted;
            self.accepted.push((link, self.strays.swap_remove(place).socket));
        } else if self.model.sockets[listener].closing.is_some() {
            self.model.break_link(link);
        }
    }

    pub(super) fn match_accepted(&mut self, listener: usize, socket: AcceptedSocket) {
        // One that was reset meanwhile has no other end any more.
        let Ok(from) = socket.peer_address() else { return };
        let is_its = |link: &Link| link.is_waiting(&from, listener);
        match self.model.links.iter().position(is_its) {
            Some(link) => {
                self.model.links[link].ends[1] = End::Accepted;
                self.accepted.push((link, socket));
            }
            None => self.strays.push(Stray { from, listener, socket }),
        }
    }

    pub(super) fn adopt_accepted(&mut self, which: usize) {
        if self.accepted.is_empty() {
            return;
        }
        let (link, socket) = self.accepted.swap_remove(which % self.accepted.len());
        let may_be_busy = self.model.socket_count() >= self.model.limits.sockets;
        match self.rig.driver.adopt(socket) {
            Ok(id) => _ = self.model.add_socket(id, Some((link, 1))),
            Err(refused) => {
                assert!(may_be_busy && refused.error.kind() == ErrorKind::Busy, "{refused:?}");
                self.model.links[link].ends[1] = End::Gone;
                self.model.links[link].pipes[1].has_end = true;
                self.model.break_link(link);
            }
        }
    }

    // Peers.

    fn choose_peer(&self, step: &Step) -> Option<usize> {
        self.peers.keys().nth(step.which % self.peers.len().max(1)).copied()
    }

    pub(super) fn peer_write(&mut self, step: &Step) {
        let Some(link) = self.choose_peer(step) else { return };
        let token = self.token();
        let (side, peer) = self.peers.get_mut(&link).expect("it was chosen");
        let pipe = &mut self.model.links[link].pipes[*side];
        if pipe.has_end {
            return;
        }
        match peer.try_write(&content(token, step.size)) {
            Ok(length) => {
                pipe.accept(token, length, false);
                pipe.resolve(token, length);
            }
            Err(error) => {
                let link = &mut self.model.links[link];
                assert!(link.is_broken, "the peer cannot write: {error}");
                link.pipes[1 - *side].is_reset = true;
            }
        }
    }

    pub(super) fn peer_read(&mut self, step: &Step) {
        if let Some(link) = self.choose_peer(step) {
            self.peer_read_some(link, step.size);
        }
    }

    /// True if something came.
    pub(super) fn peer_read_some(&mut self, link: usize, length: usize) -> bool {
        let (side, peer) = self.peers.get_mut(&link).expect("a peer's link");
        let is_broken = self.model.links[link].is_broken;
        let pipe = &mut self.model.links[link].pipes[1 - *side];
        if pipe.is_ended || pipe.is_reset {
            return false;
        }
        let mut bytes = vec![0; length];
        match peer.read_some(&mut bytes) {
            Ok(Some(0)) => pipe.end(),
            Ok(Some(length)) => pipe.receive(&bytes[..length]),
            Ok(None) => return false,
            Err(error) => {
                assert!(is_broken, "the peer cannot read: {error}");
                pipe.is_reset = true;
                return false;
            }
        }
        true
    }

    pub(super) fn peer_end(&mut self, step: &Step) {
        let Some(link) = self.choose_peer(step) else { return };
        if step.verb == Verb::PeerShut {
            return self.peer_shut(link);
        }
        let (side, peer) = self.peers.remove(&link).expect("it was chosen");
        self.model.links[link].ends[side] = End::Gone;
        self.model.break_link(link);
        if step.verb == Verb::PeerReset {
            peer.reset();
        } else {
            self.model.links[link].pipes[side].has_end = true;
        }
    }

    /// It ends its write side, unless the connection is broken.
    pub(super) fn peer_shut(&mut self, link: usize) {
        let Some((side, peer)) = self.peers.get_mut(&link) else { return };
        let link = &mut self.model.links[link];
        if !link.is_broken && !link.pipes[*side].has_end {
            peer.shut_write();
            link.pipes[*side].has_end = true;
        }
    }
}
