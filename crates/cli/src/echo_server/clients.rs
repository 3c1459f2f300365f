//! The clients of one worker: eight bytes each, found by token.

use raon_provider::SocketId;

/// All clients, each under a token that is its own until it is removed.
#[derive(Default)]
pub(crate) struct Clients {
    /// By token; `SocketId::NONE` where there is none.
    sockets: Vec<SocketId>,
    free: Vec<u32>,
}

impl Clients {
    /// Adds a client. Returns the token for all its operations.
    pub(crate) fn insert(&mut self, socket: SocketId) -> u64 {
        if let Some(index) = self.free.pop() {
            self.sockets[index as usize] = socket;
            return u64::from(index);
        }
        self.sockets.push(socket);
        self.sockets.len() as u64 - 1
    }

    /// Takes a client out, after its last completion: only then may the token be another's.
    pub(crate) fn remove(&mut self, token: u64) {
        if let Some(socket) = self.sockets.get_mut(token as usize).filter(|socket| **socket != SocketId::NONE) {
            *socket = SocketId::NONE;
            self.free.push(token as u32);
        }
    }

    /// True if there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.len() == self.free.len()
    }

    /// All clients with their tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, SocketId)> + '_ {
        let all = self.sockets.iter().enumerate();
        all.filter(|(_, socket)| **socket != SocketId::NONE).map(|(index, socket)| (index as u64, *socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_used_again() {
        let mut clients = Clients::default();
        let (first, second) = (clients.insert(SocketId::from_bits(5)), clients.insert(SocketId::from_bits(6)));
        clients.remove(first);
        clients.remove(first);
        assert_eq!(clients.insert(SocketId::from_bits(7)), first);
        assert_eq!(
            clients.iter().collect::<Vec<_>>(),
            [(first, SocketId::from_bits(7)), (second, SocketId::from_bits(6))]
        );
        clients.remove(first);
        clients.remove(second);
        assert!(clients.is_empty());
    }
}
