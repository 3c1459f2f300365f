//! The calls that give a driver its sockets.

use super::Driver;
use crate::base::address::{Address, destination};
use crate::base::error::{Error, ErrorKind, Refused};
use crate::base::id::{OperationId, SocketId};
use crate::base::range::holds;
use crate::base::setting::Setting;
use crate::contract::Origin;
use crate::contract::merge::MERGED_BYTES_MAX;
use crate::driver::connect::start_connect;
use crate::driver::datagram::datagram_limit;
use crate::driver::socket::{Connecting, Datagram, Listener, Receiving, Role, Stream};
use crate::memory::buffer::Section;
use crate::socket::{AcceptedSocket, AnySocket, BindOptions, Class, ConnectOptions, ListenOptions};

impl Driver {
    /// Opens a listener, ready for [`accept`](Self::accept). Errors: `AddressInUse`, `PermissionDenied`,
    /// `DescriptorLimit`, `Busy` (`sockets_max`), `InvalidInput` with the [`Setting`](crate::Setting) for a time out of range,
    /// or what the system says.
    pub fn listen(&mut self, address: impl Into<Address>, options: &ListenOptions) -> Result<SocketId, Error> {
        self.core.check_open()?;
        let address = address.into().unmapped();
        options.check_for(&address)?;
        let endpoint = self.core.profile.network.listener(&address, options)?;
        self.attach_new(endpoint, Role::Listener(Listener::default()))
    }

    /// Opens a datagram (UDP) socket, with a peer of its own if the options name one.
    ///
    /// Errors: `AddressInUse`, `AddressNotAvailable`, `PermissionDenied`, `DescriptorLimit`, `Busy` (`sockets_max`),
    /// `InvalidInput` (no IP address, a peer of another family or with port 0, or `datagram_bytes_max` above what a bulk buffer holds, or `coalesce` with bulk
    /// buffers below 64 KiB), or what the system says.
    pub fn bind(&mut self, address: impl Into<Address>, options: &BindOptions) -> Result<SocketId, Error> {
        self.core.check_open()?;
        let is_large_enough = self.core.config.pool.bulk_bytes as usize >= MERGED_BYTES_MAX;
        holds(Setting::Coalesce, !options.coalesce || is_large_enough)?;
        holds(
            Setting::DatagramBytesMax,
            options.datagram_bytes_max <= datagram_limit(&self.core.config, Section::Bulk),
        )?;
        let coalesce = options.coalesce && self.core.config.datagrams.coalesce;
        let address = address.into().unmapped();
        let is_v6 = address.ip().is_some_and(|ip| ip.is_ipv6());
        let peer = options.peer.map(|peer| destination(peer, is_v6)).transpose()?;
        let is_small =
            options.datagram_bytes_max <= datagram_limit(&self.core.config, Section::Receive) && !options.coalesce;
        let role = Datagram {
            receiving: Receiving {
                section: if is_small { Section::Receive } else { Section::Bulk },
                ..Receiving::default()
            },
            has_peer: peer.is_some(),
            is_v6,
            is_coalescing: options.coalesce,
            ..Datagram::default()
        };
        let options = &BindOptions { coalesce, peer, ..*options };
        let endpoint = self.core.profile.network.datagram(&address, options)?;
        self.attach_new(endpoint, Role::Datagram(role))
    }

    /// Connects to a peer. The completion carries the new socket's id; a connect that fails leaves no socket behind. While
    /// a listener has no room for one more connection it waits; only TCP gives up by itself after some time.
    ///
    /// Errors: `Busy` (`sockets_max`, `operations_max`), `DescriptorLimit`, `InvalidInput` (port 0, `bind` of another family,
    /// or, with the [`Setting`](crate::Setting), a time out of range), or what the system says of the socket.
    pub fn connect(
        &mut self,
        address: impl Into<Address>,
        options: &ConnectOptions,
        token: u64,
    ) -> Result<OperationId, Error> {
        self.core.check_open()?;
        self.core.check_operations()?;
        let address = address.into().unmapped();
        let options = &options.checked_for(&address)?;
        let system_address = address.to_system()?;
        let endpoint = self.core.profile.network.connector(&address, options)?;
        if system_address.is_unix() {
            // Asked again by our own timer: a kernel that waits for room at the listener takes a thread for it.
            endpoint.set_nonblocking(true)?;
        } else {
            self.prepare(&endpoint, None, false)?;
        }
        let index = self.core.attach(endpoint, Role::Connecting(Connecting::default()), Origin::Own)?;
        Ok(start_connect(&mut self.core, index, system_address, token))
    }

    /// Makes an unattached socket this driver's own. It never moves again.
    ///
    /// Errors: `Busy` (`sockets_max`), `InvalidInput` for a socket of another type, `ForeignSocket` for one of another make
    /// or simulated network, or what the system says; the socket comes back.
    pub fn adopt(&mut self, socket: impl Into<AcceptedSocket>) -> Result<SocketId, Refused<AcceptedSocket>> {
        let AcceptedSocket { socket, nonblocking, is_fresh } = socket.into();
        let back = |socket| AcceptedSocket { socket, nonblocking, is_fresh };
        if !self.core.profile.network.has(&socket) {
            return Err(Refused::new(ErrorKind::ForeignSocket, back(socket)));
        }
        let attached = match self.role_of(&socket, nonblocking, is_fresh) {
            Ok(role) => self.core.attach(socket, role, if is_fresh { Origin::Own } else { Origin::Foreign }),
            Err(error) => Err(Refused { error, value: socket }),
        };
        attached.map(|index| self.core.socket_id(index)).map_err(|refused| refused.map(back))
    }

    /// Another handle of a listener, for another driver: both accept on it, and it listens until both are closed.
    ///
    /// Errors: `Stale`; `InvalidInput` if it is no listener, or one of a simulated network; what the system says, for example
    /// `DescriptorLimit`.
    pub fn clone_listener(&self, listener: SocketId) -> Result<AcceptedSocket, Error> {
        let index = self.core.resolve(listener)?;
        if !self.core.sockets[index].is_listener() {
            return Err(Error::new(ErrorKind::InvalidInput));
        }
        let socket = self.core.sockets[index].endpoint.try_clone()?;
        Ok(AcceptedSocket { socket, nonblocking: None, is_fresh: false })
    }

    /// The role of a socket that comes from elsewhere, which is put into the mode that the back end needs. A fresh one is a
    /// connection.
    fn role_of(&self, endpoint: &AnySocket, nonblocking: Option<bool>, is_fresh: bool) -> Result<Role, Error> {
        self.core.check_open()?;
        let class = if is_fresh { Class::Stream } else { endpoint.class()? };
        let role = match class {
            Class::Listener => Role::Listener(Listener::default()),
            Class::Stream => Role::Stream(Stream::default()),
            Class::Datagram => {
                let (has_peer, is_v6) = (endpoint.has_peer(), endpoint.is_v6());
                Role::Datagram(Datagram { has_peer, is_v6, ..Datagram::default() })
            }
        };
        self.prepare(endpoint, nonblocking, class == Class::Listener)?;
        Ok(role)
    }

    /// A socket that this driver has just made.
    fn attach_new(&mut self, endpoint: AnySocket, role: Role) -> Result<SocketId, Error> {
        self.prepare(&endpoint, None, matches!(role, Role::Listener(_)))?;
        let index = self.core.attach(endpoint, role, Origin::Own)?;
        Ok(self.core.socket_id(index))
    }

    /// Puts a socket into the mode that the back end needs.
    fn prepare(&self, endpoint: &AnySocket, nonblocking: Option<bool>, is_listener: bool) -> Result<(), Error> {
        // The mode belongs to the open file: others may share a listener, and none of them may block in accept.
        let wanted = is_listener || self.core.profile.is_nonblocking;
        if nonblocking != Some(wanted) {
            endpoint.set_nonblocking(wanted)?;
        }
        Ok(())
    }
}
