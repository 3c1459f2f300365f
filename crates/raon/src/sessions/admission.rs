//! Admission: how many sessions there may be, in all, and from one address, or one network of IPv6: whoever has an IPv6
//! address has as many of them as he likes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use raon_session::CloseReason;

/// A session's right to be there, from its accept to its end. Given back by [`Admission::release`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AdmissionPermit {
    /// Address that the peer counts for, if addresses are counted.
    pub(crate) address: Option<IpAddr>,
}

/// The counts, shared by all shards.
pub(crate) struct Admission {
    sessions: AtomicU32,
    sessions_max: u32,
    /// Sessions per address. One that has none has no entry: at most as many entries as sessions.
    addresses: Mutex<BTreeMap<IpAddr, u32>>,
    /// 0: not counted.
    per_address_max: u32,
    /// Leading bits of an IPv6 address that count.
    prefix_v6_bits: u32,
}

impl Admission {
    pub(crate) fn new(sessions_max: u32, per_address_max: u32, prefix_v6_bits: u32) -> Self {
        let sessions = AtomicU32::new(0);
        Admission { sessions, sessions_max, addresses: Mutex::default(), per_address_max, prefix_v6_bits }
    }

    /// Admits one more session. `address` is asked only if it counts; a peer without one is not counted.
    ///
    /// Errors: why it is closed instead.
    pub(crate) fn admit(&self, address: impl FnOnce() -> Option<IpAddr>) -> Result<AdmissionPermit, CloseReason> {
        if self.sessions.fetch_add(1, Ordering::Relaxed) >= self.sessions_max {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(CloseReason::ServerFull);
        }
        let address = if self.per_address_max > 0 { address() } else { None };
        let address = address.map(|address| counted(address, self.prefix_v6_bits));
        if address.is_some_and(|address| !self.admit_address(address)) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(CloseReason::AddressLimit);
        }
        Ok(AdmissionPermit { address })
    }

    /// The session has ended, or never began.
    pub(crate) fn release(&self, permit: AdmissionPermit) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = permit.address else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    /// Admission that are taken.
    pub(crate) fn admitted(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    fn admit_address(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        let has_room = *count < self.per_address_max;
        *count += u32::from(has_room);
        has_room
    }
}

/// Address or network that an address counts for. All peers on a link share the prefix of link-local addresses, so those
/// count whole.
fn counted(address: IpAddr, prefix_v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix_v6_bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn both_limits_hold_and_permits_come_back() {
        let admission = Admission::new(3, 2, 64);
        let first = admission.admit(|| Some(ONE)).unwrap();
        admission.admit(|| Some(ONE)).unwrap();
        assert_eq!(admission.admit(|| Some(ONE)), Err(CloseReason::AddressLimit));
        let other = admission.admit(|| Some(OTHER)).unwrap();
        assert_eq!(admission.admit(|| None), Err(CloseReason::ServerFull));
        admission.release(first);
        assert_eq!(admission.admit(|| Some(ONE)), Ok(first));
        admission.release(other);
        admission.release(first);
        admission.release(first);
        assert_eq!((admission.admitted(), admission.addresses.lock().unwrap().len()), (0, 0));
    }

    #[test]
    fn an_address_is_not_asked_for_if_it_does_not_count() {
        let admission = Admission::new(1, 0, 64);
        assert_eq!(admission.admit(|| panic!("a system call for nothing")), Ok(AdmissionPermit { address: None }));
    }

    #[test]
    fn networks_of_ipv6_count_as_one_address() {
        let of = |text: &str, bits| counted(text.parse().unwrap(), bits).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 64), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 56), "2001:db8:1::");
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 128), "2001:db8:1:2:3:4:5:6");
        assert_eq!(of("ffff::1", 1), "8000::");
        assert_eq!(of("10.1.2.3", 1), "10.1.2.3");
        assert_eq!(of("::ffff:10.1.2.3", 64), "10.1.2.3", "an IPv4 address in IPv6 form");
        assert_eq!(of("fe80::1:2", 64), "fe80::1:2", "a whole link has this prefix");
    }
}
