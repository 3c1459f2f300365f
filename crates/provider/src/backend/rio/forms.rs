//! Forms of registered I/O; where the system has none, its double plays it.

use crate::base::error::Feature;
use crate::base::kind::Kind;
use crate::contract::form::Form;

/// As it is.
pub(crate) const FORMS: &[Form] = &[Form {
    uses: &[Feature::RegisteredIo],
    lacks: &[Feature::UdpSegment, Feature::UdpGro],
    ..Form::new("rio", Kind::Rio)
}];
