//! Forms of kqueue: on macOS and FreeBSD, and on Linux where a build for tests plays it.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::contract::form::Form;

const KQUEUE: Form = Form { lacks: &[Feature::UdpSegment, Feature::UdpGro], ..Form::new("kqueue", Kind::Kqueue) };

/// As it is, and over Unix sockets.
pub(crate) const FORMS: &[Form] = &[KQUEUE, KQUEUE.over_unix("kqueue_unix")];
