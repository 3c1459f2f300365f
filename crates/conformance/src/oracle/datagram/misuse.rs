//! Calls that must be refused, and change nothing.

use raon_provider::{BindOptions, CloseMode, ErrorKind, Payload, ReceiveBuffer, SocketId};

use super::model::Port;
use super::play::Player;
use super::verb::Step;
use crate::rig::refusal;

impl Player {
    /// Every call refuses an id that is none.
    //= STALE-1
    pub(super) fn stale(&mut self, step: &Step) {
        let ports = &self.model.ports;
        let gone = ports.iter().filter(|port| port.closing.is_some()).map(|port| port.id);
        let forged = ports.iter().map(|port| SocketId::from_bits(port.id.to_bits() ^ 1 << (20 + step.size % 44)));
        let mut ids: Vec<SocketId> = gone.chain(forged).chain([SocketId::NONE]).collect();
        let id = ids.swap_remove(step.size % ids.len());
        if ports.iter().any(|port| port.id == id && port.closing.is_none()) {
            return;
        }
        let (driver, to) = (&mut self.rig.driver, self.vacant.ip());
        let group = [239, 255, 77, 3].into();
        let answers = [
            refusal(driver.send(id, vec![1], 0)),
            refusal(driver.send_quiet(id, vec![1], 0)),
            refusal(driver.send_to(id, to, vec![1], 0)),
            refusal(driver.send_to_quiet(id, to, vec![1], 0)),
            refusal(driver.receive(id, 0)),
            refusal(driver.pause(id)),
            refusal(driver.resume(id)),
            refusal(driver.close(id, CloseMode::Abort, 0)),
            refusal(driver.local_address(id)),
            refusal(driver.peer_address(id)),
            refusal(driver.join_multicast(id, group, 0)),
            refusal(driver.leave_multicast(id, group, 0)),
        ];
        assert_eq!(answers, [ErrorKind::Stale; 12], "{id:?}");
    }

    /// Calls that are not for datagrams change nothing.
    pub(super) fn misuse(&mut self, step: &Step) {
        let open = self.open();
        let Some(Port { id, address, peer, .. }) = open.get(step.which % open.len().max(1)).copied() else { return };
        let (id, address, peer) = (*id, *address, *peer);
        let driver = &mut self.rig.driver;
        assert_eq!(driver.local_address(id).unwrap(), address);
        match (driver.peer_address(id), peer) {
            (Ok(known), Some(peer)) => assert_eq!(known, peer),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NotConnected),
            (known, _) => panic!("the peer is {known:?}, not {peer:?}"),
        }
        assert_eq!(refusal(driver.shutdown_write(id, 0)), ErrorKind::InvalidInput);
        let accept = refusal(driver.accept(id, 0));
        assert!(matches!(accept, ErrorKind::InvalidInput | ErrorKind::Busy), "{accept:?}");
        let into = refusal(driver.receive_into(id, ReceiveBuffer::Vec(vec![0; 9]), 0));
        assert!(matches!(into, ErrorKind::InvalidInput | ErrorKind::ReceiveActive | ErrorKind::Busy), "{into:?}");
        let nested = Payload::Gather(vec![Payload::Gather(vec![Payload::Vec(vec![1])])]);
        assert_eq!(refusal(driver.send_to(id, address, nested, 0)), ErrorKind::InvalidInput);
        assert_eq!(refusal(driver.bind(address, &BindOptions::default())), ErrorKind::AddressInUse);
    }
}
