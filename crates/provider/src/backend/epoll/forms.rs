//! Forms of epoll.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::contract::form::Form;

const EPOLL: Form = Form { uses: &[Feature::UdpSegment, Feature::UdpGro], ..Form::new("epoll", Kind::Epoll) };

/// As it is; with a system call's entry for each datagram; over Unix sockets.
pub(crate) const FORMS: &[Form] = &[
    EPOLL,
    Form {
        name: "epoll_one_by_one",
        configure: |config| (config.datagrams.segment, config.datagrams.coalesce) = (false, false),
        uses: &[],
        lacks: &[Feature::UdpSegment, Feature::UdpGro],
        ..EPOLL
    },
    EPOLL.over_unix("epoll_unix"),
];
